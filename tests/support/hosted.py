"""A Host on a thread, with a Task and a Screen that do as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raygym.core import Endpoint
from raygym.runtimes.host import Host, HostConfig, Reports
from tests.support.loop_thread import LoopThread
from tests.support.universe_client import UniverseClient

ONE, TWO = "scripted.One-v0", "scripted.Two-v0"
PASSWORD = "hunter22"


class ScriptedTask:
    """Notes what it is asked; ``problems`` are what its next resets raise, None for nothing."""

    runtime = "scripted"
    env_ids = (ONE, TWO)

    def __init__(self, *problems: Exception | None, mode: str = "realtime") -> None:
        self.manifest = {"modes": [mode], "screen": [8, 8], "timing_strip": None}
        self.problems = list(problems)
        self.resets: list[tuple[str, int | None, float]] = []
        self.during_reset: Callable[[Reports], None] = lambda _: None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.close_problem: Exception | None = None
        self.is_closed = False
        self.reports: Reports | None = None

    async def start(self, reports: Reports) -> None:
        self.reports = reports

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:
        self.resets.append((env_id, seed, fps))
        assert self.reports is not None
        self.during_reset(self.reports)
        problem = self.problems.pop(0) if self.problems else None
        if problem is not None:
            raise problem
        await self.may_go_on.wait()

    async def close(self) -> None:
        self.is_closed = True
        if self.close_problem is not None:
            raise self.close_problem


class ScriptedScreen:
    """Shows nothing; ``lose`` ends it."""

    def __init__(self) -> None:
        self.viewers = 0
        self.is_closed = False
        self._lost: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> Endpoint:
        return Endpoint(path="/somewhere/vnc.sock")

    async def wait_lost(self) -> str:
        return await self._lost.get()

    def lose(self, reason: str) -> None:
        self._lost.put_nowait(reason)

    def clients(self) -> int:
        return self.viewers

    async def close(self) -> None:
        self.is_closed = True


class Hosted:
    """A Host that runs on a thread of its own until ``close``."""

    def __init__(
        self, directory: Path, task: ScriptedTask, screen: Any = None, **config: Any
    ) -> None:
        self.directory, self.task, self.screen = directory, task, screen or ScriptedScreen()
        settings = HostConfig(**{"directory": directory, "password": PASSWORD, **config})
        self.host = Host(task, self.screen, settings)
        self._clients: list[UniverseClient] = []
        self._loop = LoopThread()
        self._loop.run(self._begin(), timeout_s=60)

    async def _begin(self) -> None:
        self._running = asyncio.create_task(self.host.run())
        ready = asyncio.create_task(self.host.is_ready.wait())
        await asyncio.wait([self._running, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()

    def join(self, *, observer: bool = False, **settings: Any) -> UniverseClient:
        """Connects a client, and reads what it is greeted with."""
        path = self.directory / "rewarder.sock"
        client = UniverseClient(path, PASSWORD, observer=observer, **settings)
        self._clients.append(client)
        client.until("v0.raygym.manifest")
        return client

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls something in the Host's event loop."""

        async def called() -> Any:
            return function(*args, **kwargs)

        return self._loop.run(called(), timeout_s=60)

    def exit_code(self, timeout_s: float = 5.0) -> int:
        """Waits until the Host has ended."""

        async def ended() -> int:
            return await asyncio.wait_for(asyncio.shield(self._running), timeout_s)

        return self._loop.run(ended(), timeout_s=timeout_s + 1)

    def close(self) -> None:
        """Ends the Host, if need be, and its thread."""
        self.call(self.host.stop)
        try:
            if not self._running.done():
                self.exit_code()
        finally:
            for client in self._clients:
                client.close()
            self._loop.close()
