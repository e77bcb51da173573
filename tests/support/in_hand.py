"""Remotes in lock-step inside this process: a Backend, and sessions that are function calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from raygym.core import Endpoint, Remote
from raygym.errors import RemoteFailedToStart, SessionLost
from raygym.remote_env.rpc.session import LockstepSession
from raygym.runtimes.lockstep.env_loop import EnvLoop


class InHandBackend:
    """Starts Remotes that are nothing but a name.

    Args:
        failing: How many of the first starts fail.
    """

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.started: list[str] = []
        self.removed: list[str] = []
        self.released: list[str] = []
        self.taken: set[str] = set()
        self.worn: set[str] = set()
        self.episodes: list[tuple[str, int]] = []
        self.is_leasing = False

    def start(self, runtime: str, *, client_id: str) -> Remote:
        if self.failing:
            self.failing -= 1
            raise RemoteFailedToStart(f"told not to start a {runtime} for {client_id}")
        self.started.append(f"r-{len(self.started) + 1}")
        rpc = Endpoint(path=f"/run/{self.started[-1]}")
        return Remote(id=self.started[-1], runtime=runtime, vnc=None, rewarder=None, rpc=rpc)

    def list(self) -> Sequence[Remote]:
        return []

    def remove(self, remote_id: str) -> None:
        self.removed.append(remote_id)

    def release(self, remote_id: str) -> None:
        self.released.append(remote_id)

    def holds(self, remote_id: str) -> bool:
        return remote_id not in self.taken

    def lease_id(self, remote_id: str) -> str:
        return f"{remote_id}:7" if self.is_leasing else ""

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        self.episodes.append((remote_id, steps))
        return remote_id in self.worn

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        return f"log of {remote_id}"

    def close(self) -> None:
        gone = self.removed + self.released
        self.removed += [r for r in self.started if r not in gone]


class InHandChannel:
    """Hands requests to an EnvLoop; loses the conversation when told to."""

    def __init__(self, loop: EnvLoop) -> None:
        self.loop = loop
        self.is_cut = False

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        if self.is_cut:
            raise SessionLost("the peer is gone")
        return self.loop.handle_bytes(request)

    def close(self) -> None:
        self.is_cut = True
        self.loop.close()


class InHandConnect:
    """Opens sessions with environments of this process.

    Args:
        factory: Makes an environment from its id and keyword arguments.
        failing: How many of the first connections fail.
    """

    def __init__(
        self, factory: Callable[[str, Any], gymnasium.Env[Any, Any]], failing: int = 0
    ) -> None:
        self.factory = factory
        self.failing = failing
        self.channels: list[InHandChannel] = []

    def __call__(self, remote: Remote, *, client_id: str, timeout_s: float) -> LockstepSession:
        if self.failing:
            self.failing -= 1
            raise SessionLost(f"told not to connect to {remote.id}")
        self.channels.append(InHandChannel(EnvLoop(self.factory)))
        session = LockstepSession(self.channels[-1], name=remote.id)
        session.hello(client_id=client_id, timeout_s=timeout_s)
        return session
