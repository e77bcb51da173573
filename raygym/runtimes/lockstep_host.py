"""A remote in lock-step with a screen that people can look at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import Protocol

from raygym.core import Endpoint
from raygym.runtimes.host import EXIT_OK, EXIT_SCREEN_LOST, EXIT_TASK_BROKEN, Screen
from raygym.runtimes.lease_watch import LeaseWatch
from raygym.runtimes.lockstep.server import LockstepServer
from raygym.runtimes.ownership import READY_FILE, Lifeline, write_ready

log = logging.getLogger(__name__)

_PULSE_S = 0.5


class Player(Protocol):
    """What shows on the screen and is stepped by the server's conversations."""

    async def start(self) -> None:
        """Gets ready; the screen is there already."""
        ...

    async def close(self) -> None:
        """Ends everything that belongs to it. May be called twice."""
        ...


class LockstepHost:
    """Serves one screen, one player and a lock-step server until it is stopped or idle.

    Owns all three and the files that it makes. Belongs to the event loop that runs it.

    Args:
        runtime: Name of the Runtime.
        directory: Private directory of the Remote; it must exist.
        screen: Shows the player.
        player: Plays.
        server: Its conversations step the player.
        idle_timeout_s: Ends after this long without any client; 0 never.
        lifeline_fd: An inherited pipe whose end means that the owner is gone.
        lease_grace_s: Ends without a lease so long after the start, and when the lease in the
            directory runs out; None looks for none.
    """

    def __init__(
        self,
        runtime: str,
        *,
        directory: Path,
        screen: Screen,
        player: Player,
        server: LockstepServer,
        idle_timeout_s: float = 600.0,
        lifeline_fd: int | None = None,
        lease_grace_s: float | None = None,
    ) -> None:
        self._runtime = runtime
        self._directory = directory
        self._screen = screen
        self._player = player
        self._server = server
        self._idle_timeout_s = idle_timeout_s
        self._lifeline_fd = lifeline_fd
        self._lifeline: Lifeline | None = None
        self._lease_grace_s = lease_grace_s
        self._lease_watch: LeaseWatch | None = None
        self._exit: asyncio.Future[tuple[int, str]] | None = None

    def stop(self, code: int = EXIT_OK, reason: str = "the remote was stopped") -> None:
        """Ends ``run`` with an exit code; the first call counts."""
        if self._exit is not None and not self._exit.done():
            self._exit.set_result((code, reason))

    async def run(self) -> int:
        """Serves until it ends; everything that belongs to it has ended on return.

        Returns:
            The exit code.

        Raises:
            RaygymError: The screen, the player or the server did not start.
        """
        self._exit = asyncio.get_running_loop().create_future()
        jobs: list[asyncio.Task[None]] = []
        (self._directory / READY_FILE).unlink(missing_ok=True)
        self._lease_watch = LeaseWatch(
            self._directory, self._lease_grace_s, lambda why: self.stop(reason=why)
        )
        try:
            vnc = await self._screen.start()
            await self._player.start()
            self._write_ready(vnc, await self._server.start())
            self._lifeline = Lifeline(
                self._lifeline_fd, lambda: self.stop(reason="the owner of this remote is gone")
            )
            jobs = [
                asyncio.create_task(self._watch_screen()),
                asyncio.create_task(self._watch_idle()),
            ]
            for job in jobs:
                job.add_done_callback(self._job_ended)
            code, reason = await self._exit
            log.info("host.ending code=%d reason=%s", code, reason)
            return code
        finally:
            for job in jobs:
                job.cancel()
            await self._close()

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("host.broken error=%s: %s", type(error).__name__, error)
            self.stop(EXIT_TASK_BROKEN, str(error))

    async def _watch_screen(self) -> None:
        reason = await self._screen.wait_lost()
        log.error("screen.lost reason=%s", reason)
        self.stop(EXIT_SCREEN_LOST, f"the screen was lost: {reason}")

    async def _watch_idle(self) -> None:
        loop = asyncio.get_running_loop()
        used_s = loop.time()
        while True:
            await asyncio.sleep(_PULSE_S)
            limit_s = self._idle_timeout_s
            if self._server.streams or self._screen.clients():
                used_s = loop.time()
            elif limit_s and loop.time() - used_s >= limit_s:
                self.stop(EXIT_OK, f"no client for {limit_s:g} s")

    def _write_ready(self, vnc: Endpoint, rpc: Endpoint) -> None:
        log.info("host.ready rpc=%s vnc=%s", rpc, vnc)
        write_ready(
            self._directory,
            {
                "runtime": self._runtime,
                "vnc": str(vnc),
                "rpc": str(rpc),
                "rpc_socket": self._server.local_socket,
            },
        )

    async def _close(self) -> None:
        is_orphan = False
        if self._lifeline is not None:
            is_orphan = self._lifeline.is_gone
            self._lifeline.close()
        # Last in, first out; each runs whatever becomes of those before it.
        async with contextlib.AsyncExitStack() as stack:
            if self._lease_watch is not None:
                stack.callback(self._lease_watch.close)
            if is_orphan:
                stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            stack.callback((self._directory / READY_FILE).unlink, missing_ok=True)
            stack.push_async_callback(self._screen.close)
            stack.push_async_callback(self._player.close)
            stack.push_async_callback(self._server.close)
