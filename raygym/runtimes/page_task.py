"""A Task that plays in a page of one Chromium, on one X screen: what Flash and the web share."""

from __future__ import annotations

import abc
import asyncio
import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raygym.errors import ConfigError
from raygym.runtimes.browser import Browser, BrowserError, BrowserLoss
from raygym.runtimes.page_server import PageServer
from raygym.runtimes.watchdog import PING_EVERY_S, Watchdog
from raygym.runtimes.xvnc_screen import XvncScreen

if TYPE_CHECKING:
    from raygym.runtimes.host import Reports

logger = logging.getLogger(__name__)

SEED_MAX = 2**31 - 1
"""Largest seed that a page is given; a larger one is folded into that."""

_PLAY_TIMEOUT_S = 25.0
_RESET_ATTEMPTS = 2


@dataclass(frozen=True)
class _Frame:
    """What the page says of one frame."""

    episode: int
    at_s: float
    reward: float
    is_over: bool
    is_time_up: bool
    state: Any
    text: Any
    info: dict[str, Any]

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> _Frame:
        """Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            episode=int(message["episode"]),
            at_s=float(message["at_s"]),
            reward=float(message["reward"]),
            is_over=bool(message["is_over"]),
            is_time_up=bool(message["is_time_up"]),
            state=message["state"],
            text=message.get("text"),
            info=dict(message.get("info") or {}),
        )


class PageTask(abc.ABC):
    """A Task whose environments play in a page.

    Owns a browser and the web server that it loads from; the screen is the Host's. When the
    browser crashes or hangs, the episode is reported as failed and the next ``reset`` starts
    a fresh browser. The page has ``raygym.play(order)``, which begins an episode, and sends
    a beat each half second and what each frame brought.

    Args:
        screen: Where the browser shows; it must have started before ``start``.
        directory: Private directory of the Remote.
        server: What the page is loaded from; started and closed with the Task.
        page: Path of the page at that server.
        env_ids: What it can play.
        screen_px: Width and height of the screen.
        timing_strip_px: Where the page paints its clock strip.
    """

    def __init__(
        self,
        screen: XvncScreen,
        *,
        directory: Path,
        server: PageServer,
        page: str,
        env_ids: Sequence[str],
        screen_px: tuple[int, int],
        timing_strip_px: tuple[int, int],
    ) -> None:
        self.env_ids = tuple(sorted(env_ids))
        self.manifest: Mapping[str, Any] = {
            "modes": ["realtime"],
            "screen": list(screen_px),
            "timing_strip": list(timing_strip_px),
        }
        self._screen_px = screen_px
        self._screen = screen
        self._directory = directory
        self._server = server
        self._page = page
        self._reports: Reports | None = None
        self._browser: Browser | None = None
        self._watching: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(time.monotonic())
        self._lock = asyncio.Lock()
        self._episode = 0
        self._is_running = False
        self._early_frames: list[_Frame] = []
        self._first_info: dict[str, Any] = {}

    @property
    @abc.abstractmethod
    def runtime(self) -> str:
        """Name of the Runtime."""

    @abc.abstractmethod
    def order(self, env_id: str, *, episode: int, seed: int) -> dict[str, Any]:
        """Returns what the page is told to begin an episode."""

    @abc.abstractmethod
    def takes_seed(self, env_id: str) -> bool:
        """Returns whether the same seed begins the same episode."""

    async def prepare(self, browser: Browser) -> None:  # noqa: B027  few need to
        """Gets a fresh browser ready; its page is there already."""

    @property
    def browser_pid(self) -> int | None:
        """Process id of the browser, which is also its process group; None without one."""
        return None if self._browser is None else self._browser.pid

    async def start(self, reports: Reports) -> None:
        """Starts the web server and the browser.

        Raises:
            BrowserError: The browser did not start.
            MissingDependency: A program is absent.
        """
        self._reports = reports
        await self._server.start()
        async with self._lock:
            await self._start_browser()

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:  # noqa: ARG002
        """Starts an episode and returns once it runs; starts a fresh browser if need be.

        Args:
            env_id: Which one; another than before is loaded into the same browser.
            seed: Of its randomness, where it takes one; None draws one.
            fps: What the client wants. A page plays at its own rate whatever it is.

        Raises:
            ConfigError: This runtime has no such environment.
            BrowserError: It did not start, in a fresh browser either.
        """
        if env_id not in self.env_ids:
            known = ", ".join(self.env_ids)
            raise ConfigError(f"unknown environment {env_id!r} of {self.runtime}. Known: {known}")
        async with self._lock:
            self._is_running = False
            for attempt in range(_RESET_ATTEMPTS):
                try:
                    await self._play(env_id, secrets.randbelow(SEED_MAX) if seed is None else seed)
                    return
                except BrowserError as error:
                    if attempt == _RESET_ATTEMPTS - 1:
                        raise
                    logger.warning("page.retry env_id=%s cause=%s", env_id, error)
                    if self._browser is not None:
                        self._browser.give_up(BrowserLoss("browser_hung", str(error)))

    async def close(self) -> None:
        """Ends the browser and the web server. May be called twice."""
        self._is_running = False
        await self._close_browser()
        await self._server.close()

    async def _play(self, env_id: str, seed: int) -> None:
        if self._browser is None or self._browser.loss is not None:
            await self._close_browser()
            await self._start_browser()
        assert self._browser is not None  # noqa: S101  started above
        self._episode += 1
        self._early_frames = []
        order = self.order(env_id, episode=self._episode, seed=seed)
        try:
            said = await self._browser.evaluate(
                f"raygym.play({json.dumps(order)})", timeout_s=_PLAY_TIMEOUT_S
            )
        except asyncio.CancelledError:
            self._browser.give_up(BrowserLoss("browser_hung", "a reset was given up"))
            raise
        self._first_info = {"seed": seed} if self.takes_seed(env_id) else {}
        # What the page reports is passed on once the caller knows that the episode runs.
        asyncio.get_running_loop().call_soon(self._open_episode, self._episode)
        logger.info(
            "page.playing env_id=%s seed=%s took_ms=%.0f reloaded=%s",
            env_id,
            seed if self.takes_seed(env_id) else None,
            said["took_ms"],
            said["is_reloaded"],
        )

    def _open_episode(self, episode: int) -> None:
        if episode != self._episode:
            return
        self._is_running = True
        self._watchdog.begin_episode(time.monotonic())
        frames, self._early_frames = self._early_frames, []
        for frame in frames:
            if self._is_running:
                self._report(frame)

    def _receive(self, text: str) -> None:
        """Takes a message of the page; nonsense is dropped, as what plays there can send it."""
        try:
            message = json.loads(text)
            self._watchdog.heard(time.monotonic(), frames=message.get("frames"))
            frame = _Frame.read(message) if message["kind"] == "frame" else None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("page.nonsense error=%r message=%.80s", error, text)
            return
        if frame is None or frame.episode != self._episode:
            return
        if self._is_running:
            self._report(frame)
        else:
            self._early_frames.append(frame)

    def _report(self, frame: _Frame) -> None:
        """Passes on what one frame brought."""
        info, self._first_info = {**self._first_info, **frame.info}, {}
        if frame.state is not None:
            info["game_state"] = frame.state
        if frame.reward:
            info["rewarder.lag.observation.timestamp"] = frame.at_s
        if frame.is_time_up:
            info |= {"truncated": True, "reason": "time_limit"}
        is_done = frame.is_over or frame.is_time_up
        if is_done:
            self._is_running = False
            self._episode += 1  # what else comes of it belongs to no episode
        if self._reports is None:
            return
        if frame.text is not None:
            self._reports.text(frame.text)
        if info or is_done:
            self._reports.reward(frame.reward, done=is_done, info=info)

    async def _start_browser(self) -> None:
        started_s = time.monotonic()
        browser = self._browser = Browser(
            self._directory,
            environment=self._screen.x_environment,
            size_px=self._screen_px,
            on_message=self._receive,
        )
        try:
            await browser.start(self._server.url(self._page))
            await self.prepare(browser)
        except BaseException:
            browser.give_up(BrowserLoss("browser_hung", "it did not start"))
            raise
        self._watchdog = Watchdog(time.monotonic())
        self._watching = asyncio.create_task(self._watch(browser))
        logger.info(
            "browser.started pid=%s took_ms=%.0f", browser.pid, 1e3 * (time.monotonic() - started_s)
        )

    async def _close_browser(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._browser is not None:
            await self._browser.close()

    async def _watch(self, browser: Browser) -> None:
        """Waits until the browser is lost, asking it now and then; says so."""
        lost = asyncio.create_task(browser.wait_lost())
        try:
            while not lost.done():
                asked_at_s = time.monotonic()
                await asyncio.wait([lost], timeout=PING_EVERY_S)
                if time.monotonic() - asked_at_s > PING_EVERY_S + 1.0:
                    # This process stood still itself; that says nothing of the browser.
                    self._watchdog.forgive(time.monotonic())
                problem = self._watchdog.problem(time.monotonic(), is_running=self._is_running)
                problem = problem or await self._ping(browser)
                if problem is not None:
                    browser.give_up(BrowserLoss("browser_hung", problem))
        finally:
            lost.cancel()
        loss = await browser.wait_lost()
        logger.warning("browser.lost reason=%s detail=%s", loss.reason, loss.detail)
        if self._is_running and self._reports is not None:
            self._is_running = False
            self._reports.failed(loss.reason, loss.detail)

    async def _ping(self, browser: Browser) -> str | None:
        try:
            await browser.evaluate("1", timeout_s=self._watchdog.patience_s(self._is_running))
        except BrowserError as error:
            return None if browser.loss is not None else f"the page did not answer: {error}"
        return None
