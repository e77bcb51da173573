"""Remotes inside this process: real RFB and the real reward protocol, on threads."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import RemoteFailedToStart
from raygym.remote_env.plain_backend import PlainBackend
from raygym.remote_env.private_directory import make_private_directory, remove


class InProcess(Protocol):
    """A Remote on threads of this process: ``raygym.runtimes.in_process.InProcessHost``."""

    def start(self, runtime: str, directory: Path, password: str) -> None:
        """Listens on ``directory/vnc.sock`` and ``directory/rewarder.sock`` on return."""
        ...

    def stop(self) -> None:
        """Ends it, with all its connections. May be called twice."""
        ...


@dataclass
class _Hosted:
    remote: Remote
    host: InProcess
    directory: Path
    is_alive: bool = True


class FakeBackend(PlainBackend):
    """Starts Remotes inside this process, for tests and examples without any program.

    Args:
        factory: Makes one host; it is started and stopped by this backend.
    """

    def __init__(self, factory: Callable[[], InProcess]) -> None:
        self._factory = factory
        self._hosted: dict[str, _Hosted] = {}
        self._lock = threading.Lock()

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Starts a Remote on threads and returns once it listens.

        Raises:
            RemoteFailedToStart: Its host raised; the cause is chained.
        """
        remote_id = f"r-{secrets.token_hex(3)}"
        directory = make_private_directory()
        password = secrets.token_urlsafe(6)
        host = self._factory()
        try:
            host.start(runtime, directory, password)
        except Exception as error:
            host.stop()
            remove(directory)
            raise RemoteFailedToStart(
                f"{remote_id} ({runtime}) for {client_id} did not start in this process: {error}",
                remote_id=remote_id,
            ) from error
        remote = Remote(
            id=remote_id,
            runtime=runtime,
            vnc=Endpoint(path=str(directory / "vnc.sock")),
            rewarder=Endpoint(path=str(directory / "rewarder.sock")),
            password=Secret(password),
        )
        with self._lock:
            self._hosted[remote_id] = _Hosted(remote, host, directory)
        return remote

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes that live."""
        with self._lock:
            return [hosted.remote for hosted in self._hosted.values() if hosted.is_alive]

    def kill(self, remote_id: str) -> None:
        """Makes a Remote die: its sockets close, as if its machine had lost power."""
        with self._lock:
            hosted = self._hosted[remote_id]
            hosted.is_alive = False
        hosted.host.stop()

    def remove(self, remote_id: str) -> None:
        """Ends a Remote and removes its directory; unknown ids are ignored."""
        with self._lock:
            hosted = self._hosted.pop(remote_id, None)
        if hosted is not None:
            hosted.host.stop()
            remove(hosted.directory)

    def release(self, remote_id: str) -> None:
        """Does as ``remove``: nobody else could find it again."""
        self.remove(remote_id)

    def holds(self, remote_id: str) -> bool:
        """Returns whether it was given out and not taken back."""
        with self._lock:
            return remote_id in self._hosted

    def close(self) -> None:
        """Removes every Remote. May be called twice."""
        with self._lock:
            remote_ids = list(self._hosted)
        for remote_id in remote_ids:
            self.remove(remote_id)
