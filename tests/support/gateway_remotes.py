"""Cheap remotes for gateways: on paper, or served by threads of this process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

from raygym.core import Endpoint, Remote
from raygym.errors import RemoteFailedToStart
from raygym.gateway.pool import Wanted
from raygym.remote_env.private_directory import make_private_directory, remove
from raygym.runtimes.serve import EnvServer, serve_env


class PaperBackend:
    """Remotes that exist on paper only; counts what was done with them."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.alive: dict[str, Remote] = {}
        self.clients: list[str] = []
        self.removed: list[str] = []
        self.failure: Exception | None = None
        self.may_start = threading.Event()
        self.may_start.set()
        self.is_closed = False

    def start(self, runtime: str, *, client_id: str) -> Remote:
        self.clients.append(client_id)
        self.may_start.wait(10)
        if self.failure is not None:
            raise self.failure
        remote = Remote(
            id=f"r-{next(self._numbers)}",
            runtime=runtime,
            vnc=None,
            rewarder=None,
            rpc=Endpoint(path="/nowhere/rpc.sock"),
        )
        self.alive[remote.id] = remote
        return remote

    def list(self) -> Sequence[Remote]:
        return list(self.alive.values())

    def holds(self, remote_id: str) -> bool:
        return remote_id in self.alive

    def remove(self, remote_id: str) -> None:
        self.removed.append(remote_id)
        self.alive.pop(remote_id, None)

    release = remove

    def lease_id(self, remote_id: str) -> str:
        del remote_id
        return ""

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        del remote_id, steps, seconds
        return False

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        return f"{lines} lines of {remote_id}"

    def close(self) -> None:
        self.is_closed = True
        self.alive.clear()


class ThreadBackend(PaperBackend):
    """Remotes of one of Gymnasium's environments, served by threads of this process.

    Args:
        wanted: What they play.
    """

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self._env_id = wanted.env_id
        self._servers: dict[str, tuple[EnvServer, Path]] = {}
        self.most = 0
        """Most remotes that there were at a time."""

    def start(self, runtime: str, *, client_id: str) -> Remote:
        if self.failure is not None:
            raise RemoteFailedToStart(str(self.failure))
        directory = make_private_directory()
        server = serve_env(self._env_id, bind=None, directory=directory, is_in_process=True)
        remote = Remote(
            id=f"r-{next(self._numbers)}",
            runtime=runtime,
            vnc=None,
            rewarder=None,
            rpc=server.endpoint,
        )
        self.clients.append(client_id)
        self.alive[remote.id] = remote
        self._servers[remote.id] = (server, directory)
        self.most = max(self.most, len(self.alive))
        return remote

    def remove(self, remote_id: str) -> None:
        self.kill(remote_id)
        super().remove(remote_id)

    release = remove

    def kill(self, remote_id: str) -> None:
        """Ends a remote as if it had crashed."""
        self.alive.pop(remote_id, None)
        server, directory = self._servers.pop(remote_id, (None, None))
        if server is not None and directory is not None:
            server.close()
            remove(directory)

    def close(self) -> None:
        for remote_id in list(self._servers):
            self.remove(remote_id)
        super().close()
