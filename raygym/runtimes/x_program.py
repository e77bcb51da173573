"""A Task around any program that draws on an X screen: the base of a user's own runtime."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raygym.errors import ConfigError, RaygymError
from raygym.runtimes.processes import Process, spawn
from raygym.runtimes.xvnc_screen import XvncScreen
from raygym.specs import EnvSpec, Runtime

if TYPE_CHECKING:
    from raygym.runtimes.host import Reports

log = logging.getLogger(__name__)

_SEED_MAX = 2**31
_LINE_MAX_BYTES = 1 << 16
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class XProgramError(RaygymError):
    """The program did not start, or ended before its episode could begin."""


class XProgram:
    """A Task that plays each episode with one run of a program; subclass it.

    A subclass says in ``command`` what to run and in ``on_line`` what a line of the
    program's standard output means: it calls ``reward`` and ``done``. An episode begins with
    the line ``ready_line``, and is cut at the environment's ``max_episode_s``. A program that
    ends before ``done`` was called has failed, and is started anew.

    Args:
        screen: Where the program shows; it must have started before ``reset``.
        directory: Private directory of the Remote, for the program's files.
        runtime: Its Runtime.
        envs: Its environments by EnvId.
    """

    ready_line = "ready"
    """What the program prints when a person could begin to play."""
    ready_timeout_s = 20.0
    """Longest wait for that line."""

    def __init__(
        self,
        screen: XvncScreen,
        *,
        directory: Path,
        runtime: Runtime,
        envs: Mapping[str, EnvSpec],
    ) -> None:
        self.runtime = runtime.name
        self.env_ids = tuple(sorted(envs))
        self.directory = directory
        self.manifest: Mapping[str, Any] = {
            "modes": ["realtime"],
            "screen": list(runtime.screen_px),
            "timing_strip": None,
        }
        self._screen = screen
        self._envs = envs
        self._reports: Reports | None = None
        self._process: Process | None = None
        self._output: asyncio.ReadTransport | None = None
        self._playing: asyncio.Task[None] | None = None
        self._is_running = False
        self._first_info: dict[str, Any] = {}

    def command(self, env_id: str, seed: int) -> Sequence[str]:
        """Returns the program and its arguments for one episode; to be overridden."""
        raise NotImplementedError

    def on_line(self, line: str) -> None:
        """Takes a line that the program printed, without its end; to be overridden."""
        raise NotImplementedError

    def reward(self, reward: float, **info: Any) -> None:
        """Reports a reward of the episode that runs; does nothing between episodes."""
        self._report(reward, is_done=False, info=info)

    def done(self, reward: float = 0.0, **info: Any) -> None:
        """Ends the episode that runs, with a last reward; does nothing between episodes."""
        self._report(reward, is_done=True, info=info)

    async def start(self, reports: Reports) -> None:
        """Gets ready; the program starts with the first ``reset``."""
        self._reports = reports

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:  # noqa: ARG002
        """Ends the program, starts it anew and returns once it is ready.

        Args:
            env_id: Handed to ``command``.
            seed: Handed to ``command``; None draws one.
            fps: Not used: a program has its own rate.

        Raises:
            ConfigError: This Runtime has no such environment.
            XProgramError: The program was not ready in time, or ended before.
            MissingDependency: The program is absent.
        """
        if env_id not in self._envs:
            known = ", ".join(self.env_ids)
            raise ConfigError(f"unknown environment {env_id!r} of {self.runtime}. Known: {known}")
        await self._end()
        seed = secrets.randbelow(_SEED_MAX) if seed is None else seed
        output = asyncio.StreamReader(limit=_LINE_MAX_BYTES)
        command = list(self.command(env_id, seed))
        process = self._process = await self._spawn(command, output)
        await self._await_ready(process, output, command)
        self._first_info = {"seed": seed}
        self._is_running = True
        limit_s = self._envs[env_id].max_episode_s
        self._playing = asyncio.create_task(self._play(process, output, limit_s))
        self._playing.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends the program. May be called twice."""
        await self._end()

    async def _spawn(self, command: Sequence[str], output: asyncio.StreamReader) -> Process:
        read_end, write_end = os.pipe()
        try:
            self._output, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read_end, "rb", 0)
            )
            passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            environment = {**passed_on, **self._screen.x_environment}
            return spawn(command, environment=environment, fds={1: write_end})
        finally:
            os.close(write_end)

    async def _await_ready(
        self, process: Process, output: asyncio.StreamReader, command: Sequence[str]
    ) -> None:
        try:
            async with asyncio.timeout(self.ready_timeout_s):
                while line := await output.readline():
                    if line.decode(errors="replace").rstrip("\r\n") == self.ready_line:
                        return
                code = await process.wait()
        except TimeoutError:
            raise XProgramError(
                f"{command[0]} did not print {self.ready_line!r} within "
                f"{self.ready_timeout_s:g} s; does it flush its output?"
            ) from None
        raise XProgramError(f"{command[0]} ended with exit code {code} before it was ready")

    async def _play(self, process: Process, output: asyncio.StreamReader, limit_s: float) -> None:
        self.reward(0.0)
        try:
            async with asyncio.timeout(limit_s):
                while line := await output.readline():
                    self.on_line(line.decode(errors="replace").rstrip("\r\n"))
                code = await process.wait()
        except TimeoutError:
            self.done(truncated=True, reason="time_limit")
            return
        if self._is_running:
            raise XProgramError(f"{process.name} ended with exit code {code} within an episode")

    def _ended(self, playing: asyncio.Task[None]) -> None:
        if playing.cancelled() or (error := playing.exception()) is None:
            return
        log.warning("program.failed cause=%s: %s", type(error).__name__, error)
        if self._is_running and self._reports is not None:
            self._is_running = False
            self._reports.failed("program_failed", f"{type(error).__name__}: {error}")

    def _report(self, reward: float, *, is_done: bool, info: dict[str, Any]) -> None:
        if not self._is_running or self._reports is None:
            return
        self._is_running = not is_done
        first, self._first_info = self._first_info, {}
        self._reports.reward(reward, done=is_done, info={**first, **info})

    async def _end(self) -> None:
        self._is_running = False
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])
            self._playing = None
        if self._process is not None:
            await self._process.end()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None
