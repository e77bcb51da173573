"""A Docker engine, with a deadline and a plain error for everything that is asked of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from raygym.catalog import Runtime
from raygym.remote_env.docker.container import image_of
from raygym.remote_env.docker.errors import engine_error, is_gone, missing_image

T = TypeVar("T")

_LOOPBACK = "127.0.0.1"
_DEFAULT = "unix:///var/run/docker.sock"
_GONE_WAIT_S = 10.0
_MOST_CONNECTIONS = 64
"""Kept open, so that many containers can be started side by side."""
_POLL_S = 0.02


@dataclass(frozen=True)
class Death:
    """Why a container ended."""

    exit_code: int | None
    """None where the engine does not say."""
    is_out_of_memory: bool
    """Whether something in it was ended for want of memory."""


class Engine:
    """The engine in DOCKER_HOST; without that variable, the one behind Docker's usual socket.

    A context manager that closes itself. Nothing is sent before the first question. May be
    used by several threads.

    Args:
        timeout_s: Longest wait for each answer.
        environ: Variables: DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH.
    """

    def __init__(self, *, timeout_s: float = 30.0, environ: Mapping[str, str] = os.environ) -> None:
        self.address = environ.get("DOCKER_HOST") or _DEFAULT
        """Where it is."""
        self.timeout_s = timeout_s
        """Longest wait for each answer."""
        self._environ = dict(environ)
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as far as its address tells: behind a unix socket."""
        return self.address.startswith("unix://")

    @property
    def host(self) -> str:
        """Where its published ports are reached: loopback, or the machine it is on."""
        if self.is_local:
            return _LOOPBACK
        return urlsplit(self.address).hostname or _LOOPBACK

    def ask(self, doing: str, question: Callable[[Any], T]) -> T:
        """Asks something of the engine.

        Args:
            doing: What is done, for messages: ``creating raygym-r-7f2a91``.
            question: Is called with the SDK's client.

        Raises:
            NoEngine, EnginePermission, MissingImage: What is absent.
            DiskFull, PortTaken, EngineFailed: What else went wrong, or took too long.
        """
        try:
            return question(self._connected())
        except (DockerException, RequestException, OSError) as error:
            raise engine_error(error, engine=self.address, doing=doing) from error

    def try_to(self, question: Callable[[Any], T]) -> T:
        """Asks something whose errors the caller understands; raises what the SDK raises.

        Raises:
            NoEngine, EnginePermission, EngineFailed: There is no connection.
        """
        try:
            client = self._connected()
        except (DockerException, RequestException, OSError) as error:
            raise engine_error(error, engine=self.address, doing="connecting") from error
        return question(client)

    def ping(self) -> None:
        """Returns if the engine answers.

        Raises:
            NoEngine, EnginePermission, EngineFailed: It does not.
        """
        self.ask("looking for the engine", lambda client: client.ping())

    def need_image(self, runtime: Runtime) -> str:
        """Returns the image of a Runtime, which the engine has.

        Raises:
            MissingImage: It has not; the message says how to get it.
            ConfigError: That Runtime has no image.
        """
        image = image_of(runtime)
        if not self.has_image(image):
            raise missing_image(image, runtime.name, engine=self.address)
        return image

    def has_image(self, image: str) -> bool:
        """Returns whether the engine has an image."""

        def look(client: Any) -> bool:
            try:
                client.api.inspect_image(image)
            except ImageNotFound:
                return False
            return True

        return self.ask(f"looking for {image}", look)

    def inspect(self, container: str) -> Mapping[str, Any] | None:
        """Returns what is known of a container, by name or id; None if there is none."""

        def look(client: Any) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = client.api.inspect_container(container)
            except APIError as error:
                if is_gone(error):
                    return None
                raise
            return found

        return self.ask(f"looking at {container}", look)

    def memory_bytes(self, container: str) -> int | None:
        """Returns the memory of a container, without files that could be dropped from it.

        None where there is none that runs. It is what ``docker stats`` shows.
        """

        def look(client: Any) -> int | None:
            try:
                memory = client.api.stats(container, stream=False, one_shot=True)["memory_stats"]
            except APIError as error:
                if is_gone(error):
                    return None
                raise
            if "usage" not in memory:
                return None
            counts = memory.get("stats", {})
            droppable = counts.get("total_inactive_file", counts.get("inactive_file", 0))
            return int(memory["usage"] - droppable)

        return self.ask(f"weighing {container}", look)

    def remove(self, container: str) -> None:
        """Kills and removes a container with its volumes, and waits until it is gone.

        Raises:
            NoEngine, EnginePermission, EngineFailed: The engine does not answer, or did not
                remove it in time.
        """

        def kill(client: Any) -> None:
            try:
                client.api.remove_container(container, force=True, v=True)
            except APIError as error:
                if not is_gone(error):
                    raise

        doing = f"removing {container}"
        self.ask(doing, kill)
        deadline_s = time.monotonic() + _GONE_WAIT_S
        # Another removal may be under way, the engine's own for one.
        while self.inspect(container) is not None:
            if time.monotonic() > deadline_s:
                raise engine_error(TimeoutError("timed out"), engine=self.address, doing=doing)
            time.sleep(_POLL_S)

    def log_of(self, container: str, *, lines: int) -> str:
        """Returns the end of what a container printed; empty if there is no such container."""

        def read(client: Any) -> str:
            try:
                printed: bytes = client.api.logs(container, tail=lines)
            except APIError:
                return ""
            return printed.decode(errors="replace")

        return self.ask(f"reading the log of {container}", read)

    def death_of(self, container: str, *, since_unix_s: float, wait_s: float = 1.0) -> Death | None:
        """Returns why a container ended, also when the engine has removed it already.

        Args:
            container: Name or id.
            since_unix_s: When it was made, or before.
            wait_s: How long to wait for news of its end.

        Returns:
            None where the engine does not know that it ended.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            death = self._events(container, since_unix_s)
            if death is not None or time.monotonic() > deadline_s:
                return death
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Lets go of the engine. May be called twice."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = DockerClient.from_env(
                    version="auto",
                    timeout=self.timeout_s,
                    max_pool_size=_MOST_CONNECTIONS,
                    environment=self._environ,
                )
            return self._client

    def _events(self, container: str, since_unix_s: float) -> Death | None:
        wanted = {"container": [container], "event": ["die", "oom"]}

        def look(client: Any) -> Death | None:
            death, is_out_of_memory = None, False
            # Up to now, so that the answer ends.
            since, until = f"{since_unix_s:.9f}", f"{time.time():.9f}"
            for event in client.api.events(since=since, until=until, filters=wanted, decode=True):
                if event.get("Action") == "oom":
                    is_out_of_memory = True
                    continue
                code = event.get("Actor", {}).get("Attributes", {}).get("exitCode")
                death = Death(None if code is None else int(code), is_out_of_memory)
            return death

        return self.ask(f"asking what became of {container[:24]}", look)
