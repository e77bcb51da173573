"""Remotes as hardened containers: made, found again, told of their lease, removed."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from raygym.catalog import Runtime, load_catalog
from raygym.config import TlsFiles
from raygym.core import Remote
from raygym.errors import ConfigError, RaygymError, RemoteUnreachable
from raygym.remote_env.docker.container import (
    RUNTIME,
    ContainerOptions,
    Order,
    check_remote_id,
    container_name,
    image_of,
    is_lockstep,
)
from raygym.remote_env.docker.crashes import CrashCounter
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.docker.errors import ContainerDied, OutOfMemory
from raygym.remote_env.docker.places import Place, PublishedPorts, SharedDirectories, remote_from
from raygym.remote_env.docker.start import Start, directory_error, log_tail
from raygym.remote_env.docker.survey import survey
from raygym.remote_env.lease_file import Found, LeaseFile
from raygym.remote_env.state import state_directory

log = logging.getLogger(__name__)

_MEMORY_S = 86_400.0
"""How far back an engine is asked why a container ended."""


class DockerStore:
    """Makes and finds containers at one engine. Safe to call from several threads.

    A container shares one private directory with this machine and has no network, unless
    ports are published. It ends by itself when its lease runs out, and the engine removes it.

    Args:
        start_timeout_s: Longest wait for a container to listen.
        publish_ports: TCP ports in place of a shared directory, as an engine on another
            machine needs; see ``docs/security.md``.
        tls: Certificates of the remotes, for published gRPC.
        container_runtime: The engine's runtime, such as ``runsc``.
        state: Where directories are; None takes ``state_directory()``.
        engine: Belongs to the store then; None takes the one in DOCKER_HOST.
        lease_grace_s: How long a remote waits for its first lease.
        runtimes: What there is to host; None takes the catalog's.

    Raises:
        ConfigError: The options make no sense together, or with the engine.
    """

    def __init__(
        self,
        *,
        start_timeout_s: float = 60.0,
        publish_ports: bool = False,
        tls: TlsFiles | None = None,
        container_runtime: str | None = None,
        state: Path | None = None,
        engine: Engine | None = None,
        lease_grace_s: float = 30.0,
        runtimes: Mapping[str, Runtime] | None = None,
    ) -> None:
        self._start_timeout_s = start_timeout_s
        self._engine = Engine() if engine is None else engine
        self._options = ContainerOptions(
            lease_grace_s=lease_grace_s,
            publish_ports=publish_ports,
            publish_host="127.0.0.1" if self._engine.is_local else "0.0.0.0",  # noqa: S104
            tls=tls,
            container_runtime=container_runtime,
        )
        if not (self._engine.is_local or publish_ports):
            raise ConfigError(
                f"DOCKER_HOST: {self._engine.address} is another machine, which shares no "
                "directory with this one; say publish_ports=True and give tls"
            )
        self._runtimes = load_catalog().runtimes if runtimes is None else runtimes
        shared = None if publish_ports else SharedDirectories(state or state_directory())
        self._root = None if shared is None else shared.root
        self._place: Place = shared or PublishedPorts(self._engine, tls)
        self._crashes = CrashCounter()
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def create(
        self,
        remote_id: str,
        runtime: str,
        *,
        client_id: str,
        variant: Sequence[str],
        cluster: str,
        lease: LeaseFile,
    ) -> Remote:
        """Makes a container, or finds the one made before, and returns once it listens.

        Args:
            remote_id: Its name; no two containers have the same.
            runtime: Name of its Runtime.
            client_id: For whom it is made first; a label.
            variant: More arguments of the far end; a label.
            cluster: Which cluster it belongs to; a label.
            lease: What the far end is told of its lease.

        Raises:
            NoEngine, EnginePermission, MissingImage: What is absent.
            OutOfMemory, ContainerDied: It ended before it listened. Ends with its log.
            CrashLoop: So did those before it; this one was not even started.
            DiskFull, PortTaken, EngineFailed: What else went wrong.
            RemoteFailedToStart: It did not listen in time. Ends with its log.
            ConfigError: There is no such Runtime, or it has no image.
        """
        found = self._runtime(runtime)
        order = Order(
            remote_id=remote_id,
            runtime=found,
            image=image_of(found),
            client_id=client_id,
            variant=tuple(variant),
            cluster=cluster,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            directory=self._place.directory(remote_id),
        )
        self._refuse_plaintext(order)
        key = (runtime, order.variant)
        with self._alone(remote_id):
            self._crashes.check(key, runtime)
            began_s = time.monotonic()
            try:
                start = Start(
                    self._engine,
                    self._place,
                    self._options,
                    order,
                    timeout_s=self._start_timeout_s,
                )
                remote = start.run(lease)
            except (ContainerDied, OutOfMemory) as death:
                self._clean_up(remote_id)
                raise self._crashes.note(key, runtime, death) from death
            except BaseException:
                self._clean_up(remote_id)
                raise
            self._crashes.forget(key)
        log.info(
            "remote.ready remote_id=%s runtime=%s client_id=%s boot_s=%.2f",
            remote_id,
            runtime,
            client_id,
            time.monotonic() - began_s,
        )
        return remote

    def adopt(self, remote_id: str) -> Remote:
        """Returns the Remote of a container that runs already, whoever made it.

        Raises:
            RemoteUnreachable: It does not run, or does not listen.
            NoEngine, EnginePermission, EngineFailed: The engine does not answer.
        """
        name = container_name(check_remote_id(remote_id))
        status = self._engine.inspect(name)
        state = "gone" if status is None else str(status["State"]["Status"])
        if status is None or state != "running":
            raise RemoteUnreachable(
                f"{remote_id}: its container is {state}{self._last_words(name)}; start another "
                "remote",
                remote_id=remote_id,
            )
        ports = (status.get("NetworkSettings") or {}).get("Ports") or {}
        try:
            runtime = str(status["Config"]["Labels"][RUNTIME])
            remote = remote_from(self._place, remote_id, runtime, str(status["Id"]), ports)
        except (ValueError, KeyError, TypeError) as error:
            raise RemoteUnreachable(
                f"{remote_id}: what it says of itself makes no sense ({error!r}); start another "
                "remote",
                remote_id=remote_id,
            ) from error
        if remote is None:
            raise RemoteUnreachable(
                f"{remote_id}: it does not listen (yet); try again, or start another remote",
                remote_id=remote_id,
            )
        return remote

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """Tells the far end who holds it and until when.

        Raises:
            RemoteUnreachable: The remote has ended.
        """
        name = container_name(check_remote_id(remote_id))
        try:
            self._place.write_lease(remote_id, name, lease)
        except OSError as error:
            raise directory_error(error, remote_id) from error

    def remove(self, remote_id: str) -> None:
        """Removes a container and its directory at once; unknown ids are ignored.

        Raises:
            NoEngine, EnginePermission, EngineFailed: The engine does not answer, or did not
                remove it in time.
        """
        with self._alone(check_remote_id(remote_id)):
            self._remove(remote_id)

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns the end of a Remote's log, or an empty string if there is none."""
        return log_tail(self._engine, self._place, check_remote_id(remote_id), lines=lines)

    def memory_mib(self, remote_id: str) -> float | None:
        """Returns the memory of a container now, in MiB; None where it does not run.

        Raises:
            NoEngine, EnginePermission, EngineFailed: The engine does not answer.
        """
        weight = self._engine.memory_bytes(container_name(check_remote_id(remote_id)))
        return None if weight is None else weight / 2**20

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """Returns what is there of one cluster, or of all.

        Directories without a container are told of whatever the cluster.

        Raises:
            NoEngine, EnginePermission, EngineFailed: The engine does not answer.
        """
        return survey(self._engine, self._root, cluster)

    def close(self) -> None:
        """Lets go of the engine; containers stay. May be called twice."""
        self._engine.close()

    def _remove(self, remote_id: str) -> None:
        self._engine.remove(container_name(remote_id))
        self._place.remove(remote_id)

    def _clean_up(self, remote_id: str) -> None:
        try:
            self._remove(remote_id)
        except RaygymError as error:
            # What could not be started is what the caller must hear of.
            log.warning("remote.not_removed remote_id=%s cause=%s", remote_id, error)

    def _last_words(self, name: str) -> str:
        """Returns why a container ended, as far as the engine remembers."""
        since_unix_s = time.time() - _MEMORY_S
        death = self._engine.death_of(name, since_unix_s=since_unix_s, wait_s=0.0)
        if death is None:
            return ""
        why = "out of memory" if death.is_out_of_memory else f"exit code {death.exit_code}"
        return f" ({why})"

    def _runtime(self, name: str) -> Runtime:
        if name not in self._runtimes:
            known = ", ".join(sorted(self._runtimes))
            raise ConfigError(f"unknown runtime {name!r}. Known: {known}")
        return self._runtimes[name]

    def _refuse_plaintext(self, order: Order) -> None:
        if self._engine.is_local:
            return
        if not is_lockstep(order.runtime, order.variant):
            raise ConfigError(
                f"{order.runtime.name} in real time on another machine ({self._engine.address}): "
                "VNC and the reward channel speak no TLS, and would send all in plaintext. Use "
                "mode='lockstep' with tls, or run raygym on that machine"
            )
        if self._options.tls is None:
            raise ConfigError(
                f"{order.runtime.name} on another machine ({self._engine.address}) needs tls: "
                "`raygym certs init` makes the files"
            )

    @contextlib.contextmanager
    def _alone(self, remote_id: str) -> Iterator[None]:
        """One thing at a time is done with a remote by this process."""
        with self._locks_lock:
            lock = self._locks.setdefault(remote_id, threading.Lock())
        with lock:
            yield
