"""One Task and one Screen behind their endpoints: what a Remote is on the inside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raygym.config import check_range
from raygym.core import Endpoint, Outcome
from raygym.errors import ConfigError, RaygymError
from raygym.runtimes.lease_watch import LeaseWatch
from raygym.runtimes.ownership import READY_FILE, Lifeline, write_ready
from raygym.runtimes.reward_channel import RewardChannel
from raygym.wire import rewarder
from raygym.wire.rewarder_server import Request, ResetRequested, RewarderServer

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_SCREEN_LOST = 3
EXIT_TASK_BROKEN = 4
"""Exit codes of a Remote."""

_RESET_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_KEEP_ALIVE_S = 4.0
_PULSE_S = 0.5


class UnknownEnv(ConfigError):
    """A Task that takes any id found nothing behind one; it can go on with others."""


class Reports(Protocol):
    """What a Task tells its Host; to be called in the Host's event loop."""

    def reward(
        self, reward: float, *, done: bool = False, info: Mapping[str, Any] | None = None
    ) -> None:
        """Reports a reward of the present episode; ``done`` ends it."""
        ...

    def text(self, text: Any) -> None:
        """Reports a text: any JSON."""
        ...

    def failed(self, reason: str, detail: str) -> None:
        """Reports that this episode cannot go on; the Host ends it and resets."""
        ...


class Task(Protocol):
    """A family of environments at the far end."""

    @property
    def runtime(self) -> str:
        """Name of the Runtime."""
        ...

    @property
    def env_ids(self) -> Sequence[str]:
        """The environments that it can play."""
        ...

    @property
    def manifest(self) -> Mapping[str, Any]:
        """``modes``, ``screen`` as [width, height], ``timing_strip`` as [x, y] or null."""
        ...

    async def start(self, reports: Reports) -> None:
        """Gets ready; the screen is there already."""
        ...

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:
        """Returns once a new episode runs; mends whatever is broken.

        What it reports counts from the moment that this returns.
        """
        ...

    async def close(self) -> None:
        """Ends everything that belongs to it. May be called twice."""
        ...


class Screen(Protocol):
    """Where the Task shows, and VNC clients look."""

    async def start(self) -> Endpoint:
        """Starts it; returns where RFB is spoken."""
        ...

    async def wait_lost(self) -> str:
        """Waits until it ends by itself; returns what was seen."""
        ...

    def clients(self) -> int:
        """Returns how many VNC clients are connected."""
        ...

    async def close(self) -> None:
        """Ends it and removes its files. May be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """How a Host serves."""

    directory: Path
    """Private directory of the Remote; it must exist."""
    password: str
    """What clients of both endpoints must know."""
    fps: float = 25.0
    """Frames a second until a client asks for another rate."""
    bind: str | None = None
    """Address for TCP; None serves unix sockets in the directory."""
    rewarder_port: int = 0
    """TCP port of the reward channel; 0 takes a free one."""
    idle_timeout_s: float = 600.0
    """Ends after this long without any client; 0 never."""
    reset_timeout_s: float = 60.0
    """Longest reset."""
    env_id: str | None = None
    """Played from the start; None waits for a client's reset."""
    lifeline_fd: int | None = None
    """An inherited pipe whose end means that the owner is gone."""
    lease_grace_s: float | None = None
    """Ends without a lease so long after the start, and when the lease in the directory runs
    out; None looks for none."""

    def __post_init__(self) -> None:
        check_range("HostConfig", "idle_timeout_s", self.idle_timeout_s, 0, 1e7)
        check_range("HostConfig", "reset_timeout_s", self.reset_timeout_s, 0.01, 3600)
        check_range("HostConfig", "rewarder_port", self.rewarder_port, 0, 65535)


@dataclass(frozen=True)
class _Order:
    """A reset to do: a client's, or the Host's own."""

    env_id: str
    seed: int | None
    fps: float
    requests: tuple[Request, ...] = ()


class Host:
    """Serves one Task and one Screen until it is stopped, idle, or beyond repair.

    Owns both, the reward channel and the files that it makes. Belongs to the event loop
    that runs it.

    Args:
        task: Plays the environments.
        screen: Shows them.
        config: How to serve.
        unix_time: Unix time in seconds.

    Raises:
        ConfigError: The Task has no environment ``config.env_id``.
    """

    def __init__(
        self,
        task: Task,
        screen: Screen,
        config: HostConfig,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        if config.env_id is not None and config.env_id not in task.env_ids:
            known = ", ".join(task.env_ids)
            raise ConfigError(f"unknown env_id {config.env_id!r} of {task.runtime}. Known: {known}")
        self._task = task
        self._screen = screen
        self._config = config
        self._unix_time = unix_time
        self._server = RewarderServer(
            password=config.password,
            env_ids=task.env_ids,
            fps=config.fps,
            manifest={
                "protocol": rewarder.PROTOCOL,
                "runtime": task.runtime,
                "env_ids": list(task.env_ids),
                **task.manifest,
            },
        )
        self._channel = RewardChannel(
            self._server,
            config.directory,
            self._on_reset,
            host=config.bind,
            port=config.rewarder_port,
            unix_time=unix_time,
        )
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        self._exit: asyncio.Future[tuple[int, str]] | None = None
        self._lifeline: Lifeline | None = None
        self._lease_watch: LeaseWatch | None = None
        self.is_ready = asyncio.Event()
        """Set once both endpoints answer."""

    def reward(
        self, reward: float, *, done: bool = False, info: Mapping[str, Any] | None = None
    ) -> None:
        """Passes a reward of the Task on; see ``Reports``."""
        if self._server.env_state != "running":
            return
        if not math.isfinite(reward):
            self.failed("bad_reward", f"the environment gave a reward of {reward!r}")
            return
        now_s = self._unix_time()
        self._channel.send(self._server.reward(reward, done=done, info=info or {}, now_s=now_s))
        if done:
            self._go_on()

    def text(self, text: Any) -> None:
        """Passes a text of the Task on; see ``Reports``."""
        self._channel.send(self._server.text(text, now_s=self._unix_time()))

    def failed(self, reason: str, detail: str) -> None:
        """Ends the episode as failed and starts the next; see ``Reports``."""
        log.warning("episode.failed reason=%s detail=%s", reason, detail)
        outcome = str(Outcome.ENV_FAILURE)
        self.reward(0.0, done=True, info={"outcome": outcome, "reason": reason, "detail": detail})

    def stop(self, code: int = EXIT_OK, reason: str = "the remote was stopped") -> None:
        """Ends ``run`` with an exit code; the first call counts."""
        if self._exit is not None and not self._exit.done():
            self._exit.set_result((code, reason))

    async def run(self) -> int:
        """Serves until it ends; everything that belongs to it has ended on return.

        Returns:
            The exit code.

        Raises:
            RaygymError: The screen, the reward channel or the Task did not start.
        """
        self._exit = asyncio.get_running_loop().create_future()
        jobs: list[asyncio.Task[None]] = []
        reason = "the remote did not start"
        (self._config.directory / READY_FILE).unlink(missing_ok=True)
        self._lease_watch = LeaseWatch(
            self._config.directory,
            self._config.lease_grace_s,
            lambda why: self.stop(reason=why),
        )
        try:
            vnc = await self._screen.start()
            endpoint = await self._channel.start()
            self._write_ready(vnc, endpoint)
            self.is_ready.set()
            jobs = [
                asyncio.create_task(self._work()),
                asyncio.create_task(self._watch_screen()),
                asyncio.create_task(self._pulse()),
            ]
            self._lifeline = Lifeline(
                self._config.lifeline_fd,
                lambda: self.stop(reason="the owner of this remote is gone"),
            )
            for job in jobs:
                job.add_done_callback(self._job_ended)
            code, reason = await self._exit
            log.info("host.ending code=%d reason=%s", code, reason)
            return code
        finally:
            for job in jobs:
                job.cancel()
            if jobs:
                await asyncio.wait(jobs, timeout=5.0)
            await self._close(reason)

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("host.broken error=%s: %s", type(error).__name__, error)
            self.stop(EXIT_TASK_BROKEN, str(error))

    def _on_reset(self, asked: ResetRequested) -> None:
        self._orders.put_nowait(_Order(asked.env_id, asked.seed, asked.fps, (asked.request,)))

    def _go_on(self) -> None:
        """Orders the next episode of what is played."""
        env_id = self._server.env_id
        assert env_id is not None  # noqa: S101  something was played
        self._orders.put_nowait(_Order(env_id, None, self._server.fps))
        # Until it runs, nothing that the Task still says belongs to an episode.
        self._server.env_state = "resetting"

    async def _work(self) -> None:
        """Starts the Task, then does one reset after the other."""
        await self._task.start(self)
        if self._config.env_id is not None:
            self._orders.put_nowait(_Order(self._config.env_id, None, self._server.fps))
        while True:
            await self._reset(self._next_order(await self._orders.get()))

    def _next_order(self, order: _Order) -> _Order:
        """Joins the orders that wait: one new episode is what each of them asks for."""
        while not self._orders.empty():
            newer = self._orders.get_nowait()
            if newer.requests or not order.requests:
                requests = (*order.requests, *newer.requests)
                order = _Order(newer.env_id, newer.seed, newer.fps, requests)
        return order

    async def _reset(self, order: _Order) -> None:
        asked = order.requests[-1] if order.requests else None
        self._channel.send(
            self._server.resetting(order.env_id, now_s=self._unix_time(), request=asked)
        )
        for attempt in range(_RESET_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(self._config.reset_timeout_s):
                    await self._task.reset(order.env_id, seed=order.seed, fps=order.fps)
                self._channel.send(
                    self._server.running(now_s=self._unix_time(), requests=order.requests)
                )
                return
            except UnknownEnv as error:
                self._refuse(order, f"is not here: {error}")
                return
            except ConfigError:
                raise
            except (RaygymError, TimeoutError) as error:
                cause = str(error) or f"not done within {self._config.reset_timeout_s:g} s"
                log.warning(
                    "reset.failed env_id=%s attempt=%d cause=%s", order.env_id, attempt + 1, cause
                )
        self._refuse(order, f"could not be started in {_RESET_ATTEMPTS} attempts: {cause}")
        self.stop(EXIT_TASK_BROKEN, f"{order.env_id} could not be started: {cause}")

    def _refuse(self, order: _Order, why: str) -> None:
        for request in order.requests:
            answer = self._server.refuse(request, f"{order.env_id} {why}", now_s=self._unix_time())
            self._channel.send(answer)

    async def _watch_screen(self) -> None:
        reason = await self._screen.wait_lost()
        log.error("screen.lost reason=%s", reason)
        self.stop(EXIT_SCREEN_LOST, f"the screen was lost: {reason}")

    async def _pulse(self) -> None:
        """Keeps quiet episodes audible, and ends a Remote that nobody uses.

        Where the client owns time, a reward answers a step, so none is made up.
        """
        loop = asyncio.get_running_loop()
        used_s = loop.time()
        while True:
            await asyncio.sleep(_PULSE_S)
            now_s = loop.time()
            if self._server.connections or self._screen.clients():
                used_s = now_s
            limit_s = self._config.idle_timeout_s
            if limit_s and now_s - used_s >= limit_s:
                self.stop(EXIT_OK, f"no client for {limit_s:g} s")
            is_realtime = "realtime" in self._task.manifest.get("modes", ())
            if is_realtime and now_s - self._channel.last_sent_s >= _KEEP_ALIVE_S:
                self.reward(0.0)

    def _write_ready(self, vnc: Endpoint, endpoint: Endpoint) -> None:
        write_ready(
            self._config.directory,
            {
                "runtime": self._task.runtime,
                "vnc": str(vnc),
                "rewarder": str(endpoint),
                "protocol": rewarder.PROTOCOL,
            },
        )

    async def _close(self, reason: str) -> None:
        is_orphan = self._lifeline is not None and self._lifeline.is_gone
        if self._lifeline is not None:
            self._lifeline.close()
        # Last in, first out; each runs whatever becomes of those before it.
        async with contextlib.AsyncExitStack() as stack:
            if self._lease_watch is not None:
                stack.callback(self._lease_watch.close)
            if is_orphan:
                stack.callback(shutil.rmtree, self._config.directory, ignore_errors=True)
            stack.callback((self._config.directory / READY_FILE).unlink, missing_ok=True)
            stack.push_async_callback(self._screen.close)
            stack.push_async_callback(self._task.close)
            stack.push_async_callback(self._channel.close, reason)
