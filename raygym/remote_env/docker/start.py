"""Starts one container and waits until the remote in it listens."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping
from typing import Any

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from raygym.core import Remote
from raygym.errors import RaygymError, RemoteFailedToStart
from raygym.remote_env.docker.container import (
    REMOTE,
    RUNTIME,
    ContainerOptions,
    Order,
    container_name,
    creation,
    docker_run,
)
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.docker.errors import (
    ContainerDied,
    DiskFull,
    MissingImage,
    OutOfMemory,
    container_death,
    engine_error,
    is_gone,
    missing_image,
)
from raygym.remote_env.docker.places import LOG_FILE, Place, remote_from
from raygym.remote_env.lease_file import LeaseFile

log = logging.getLogger(__name__)

LINE_BYTES = 500
"""So much of a log is read for each line that is wanted."""
_POLL_S = 0.005
_LOOK_S = 0.25
"""How often a container that starts is asked for, whether it still runs."""
_LOG_LINES = 50
_CONFLICT = 409
_RUNS = ("created", "running", "restarting")


class Start:
    """The start of one container, or the finding of the one that was started before.

    Args:
        engine: Where.
        place: Where its files are.
        options: How containers are started.
        order: What to start.
        timeout_s: Longest time until it listens.
    """

    def __init__(
        self,
        engine: Engine,
        place: Place,
        options: ContainerOptions,
        order: Order,
        *,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._place = place
        self._options = options
        self._order = order
        self._name = container_name(order.remote_id)
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._since_unix_s = time.time()

    def run(self, lease: LeaseFile) -> Remote:
        """Returns once the remote listens; leaves clearing up after an error to the caller.

        Raises:
            RemoteFailedToStart, MissingDependency, EngineFailed: See ``DockerStore.create``.
        """
        try:
            self._place.prepare(self._order.remote_id, lease)
        except OSError as error:
            raise directory_error(error, self._order.remote_id) from error
        container = self._make()
        try:
            container.start()
        except (DockerException, RequestException) as error:
            raise self._explained(error, "starting") from error
        if self._options.publish_ports:
            self._place.write_lease(self._order.remote_id, self._name, lease)
        return self._await(str(container.id))

    def _make(self) -> Any:
        """Returns a new container, or the one of that name."""
        made = creation(self._order, self._options)
        log.info("remote.docker_run %s", docker_run(made))
        while True:
            try:
                container = self._engine.try_to(lambda client: client.containers.create(**made))
                self._place.fill(container.id)
                return container
            except (DockerException, RequestException) as error:
                if not (isinstance(error, APIError) and error.status_code == _CONFLICT):
                    raise self._explained(error, "creating") from error
            found = self._find()
            if found is not None:
                return found
            if time.monotonic() > self._deadline_s:
                raise self._failure("could not be made: the engine still removes its predecessor")
            time.sleep(_POLL_S)

    def _find(self) -> Any:
        """Returns the container that has the name already; None if it is on its way out."""

        def get(client: Any) -> Any:
            try:
                return client.containers.get(self._name)
            except APIError as error:
                if is_gone(error):
                    return None
                raise

        found = self._engine.ask(f"finding {self._name}", get)
        if found is None:
            return None
        order = self._order
        if (found.labels.get(REMOTE), found.labels.get(RUNTIME)) != (
            order.remote_id,
            order.runtime.name,
        ):
            raise RemoteFailedToStart(
                f"{order.remote_id}: the engine has another container of the name {self._name}; "
                f"remove it with `docker rm -f {self._name}`",
                remote_id=order.remote_id,
            )
        if found.status in _RUNS:
            return found
        self._engine.remove(self._name)
        return None

    def _await(self, container_id: str) -> Remote:
        look_s = time.monotonic() + _LOOK_S
        status = self._engine.inspect(container_id) if self._options.publish_ports else {}
        while True:
            try:
                remote = self._read(container_id, status or {})
            except (ValueError, KeyError, TypeError) as error:
                raise self._failure(f"wrote a ready.json of no sense ({error!r})") from error
            if remote is not None:
                return remote
            now_s = time.monotonic()
            if now_s >= look_s:
                look_s = now_s + _LOOK_S
                status = self._engine.inspect(container_id)
                if status is None or not status["State"]["Running"]:
                    raise self._death(container_id)
            if now_s >= self._deadline_s:
                raise self._failure(f"did not listen within {self._timeout_s:g} s")
            time.sleep(_POLL_S)

    def _read(self, container_id: str, status: Mapping[str, Any]) -> Remote | None:
        order = self._order
        ports = (status.get("NetworkSettings") or {}).get("Ports") or {}
        return remote_from(self._place, order.remote_id, order.runtime.name, container_id, ports)

    def _explained(self, error: Exception, doing: str) -> RaygymError:
        order = self._order
        found = engine_error(error, engine=self._engine.address, doing=f"{doing} {self._name}")
        if isinstance(found, MissingImage):
            return missing_image(order.image, order.runtime.name, engine=self._engine.address)
        return found

    def _death(self, container_id: str) -> ContainerDied | OutOfMemory:
        death = self._engine.death_of(container_id, since_unix_s=self._since_unix_s)
        return container_death(
            self._order.remote_id,
            self._order.runtime.name,
            exit_code=None if death is None else death.exit_code,
            is_out_of_memory=death is not None and death.is_out_of_memory,
            memory_mib=self._order.runtime.memory_mib,
            log=self._log(),
        )

    def _failure(self, problem: str) -> RemoteFailedToStart:
        text = self._log()
        return RemoteFailedToStart(
            f"{self._order.remote_id} ({self._order.runtime.name}) {problem}. Its log ends:\n"
            f"{text or '(empty)'}",
            remote_id=self._order.remote_id,
            log=text,
        )

    def _log(self) -> str:
        return log_tail(self._engine, self._place, self._order.remote_id, lines=_LOG_LINES)


def log_tail(engine: Engine, place: Place, remote_id: str, *, lines: int) -> str:
    """Returns the end of a remote's log: of its file, else of what its container printed."""
    name = container_name(remote_id)
    try:
        text = place.read(remote_id, name, LOG_FILE, most_bytes=lines * LINE_BYTES)
        text = text or engine.log_of(name, lines=lines)
    except RaygymError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def directory_error(error: OSError, remote_id: str) -> RemoteFailedToStart:
    """Returns what the system's error about a remote's directory means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"{remote_id}: no room for its directory: {error}. Free some space there, or name "
            "another place with RAYGYM_STATE",
            remote_id=remote_id,
        )
    return RemoteFailedToStart(
        f"{remote_id}: its directory cannot be made or written to: {error}", remote_id=remote_id
    )
