"""The browser of a wob remote in lock-step: its time stands still between two steps."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygym.catalog import Catalog, EnvSpec
from raygym.errors import StepTimeout
from raygym.runtimes.browser import Browser, BrowserError, BrowserLoss
from raygym.runtimes.wob.keyboard import key_events
from raygym.runtimes.wob.pages import RUNTIME, page_server, play_order, prepare
from raygym.runtimes.xvnc_screen import XvncScreen
from raygym.strokes import Motion, Point

logger = logging.getLogger(__name__)

_FLAGS = (
    # Pictures are asked for one by one: they need not wait for the beat of a screen.
    "--disable-frame-rate-limit",
    "--disable-gpu-vsync",
    # The same content is the same picture, to the bit: nothing is left to be painted later, and
    # no part of it is painted by itself.
    "--disable-checker-imaging",
    "--disable-partial-raster",
    "--disable-smooth-scrolling",
    "--disable-composited-antialiasing",
)
_ASIDE = Point(-1, -1, is_down=False)


@dataclass(frozen=True)
class Moment:
    """What a step, or the start of an episode, brought."""

    png: bytes
    """The task's picture."""
    reward: float
    is_over: bool
    info: Mapping[str, Any]
    """What the page told."""
    complaints: Sequence[str]
    """Errors of the task's own scripts."""


class WobPage:
    """A page that plays one task at a time; a lost browser is replaced when needed.

    Owns a browser and the web server that it loads from; the screen is somebody else's.
    Belongs to the event loop that made it, but for ``give_up`` and ``loss``.

    Args:
        screen: Where the browser shows; it must have started before ``start``.
        directory: Private directory of the Remote.
        catalog: What it can play.

    Raises:
        MissingDependency: MiniWoB was not installed.
    """

    def __init__(self, screen: XvncScreen, *, directory: Path, catalog: Catalog) -> None:
        self.specs = {spec.id: spec for spec in catalog.envs.values() if spec.runtime == RUNTIME}
        self._screen = screen
        self._screen_px = catalog.runtime(RUNTIME).screen_px
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._server = page_server()
        self._browser: Browser | None = None
        self._is_down = False
        self._episodes = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it belongs to."""
        return self._loop

    @property
    def loss(self) -> BrowserLoss | None:
        """How the browser was lost, or None while all is well."""
        return None if self._browser is None else self._browser.loss

    async def start(self) -> None:
        """Starts the web server and the browser.

        Raises:
            BrowserError: The browser did not start.
            MissingDependency: A program is absent.
        """
        await self._server.start()
        await self._ready()

    async def begin(self, spec: EnvSpec, seed: int, *, timeout_s: float) -> Moment:
        """Begins an episode, in a fresh browser if the old one was lost.

        Args:
            spec: The task.
            seed: Of its randomness.
            timeout_s: Longest wait.

        Raises:
            BrowserError: It did not begin in time.
        """
        self._episodes += 1
        try:
            async with asyncio.timeout(timeout_s):
                browser = await self._ready()
                # Nothing of the episode before lies under the pointer, or is held.
                await self._point(browser, spec, _ASIDE, timeout_s)
                order = play_order(spec, self._server, episode=self._episodes, seed=seed)
                await browser.evaluate(f"raygym.play({json.dumps(order)})", timeout_s=timeout_s)
                return await self._moment(browser, spec, 1, timeout_s)
        except TimeoutError as error:
            self.give_up(BrowserLoss("browser_hung", f"no episode within {timeout_s:g} s"))
            raise BrowserError(f"{spec.id}: no episode began within {timeout_s:g} s") from error

    async def step(
        self, spec: EnvSpec, motions: Sequence[Motion], frames: int, *, timeout_s: float
    ) -> Moment:
        """Does what an action says, then lets frames pass.

        Args:
            spec: The task that plays.
            motions: Each has arrived at the page before time goes on.
            frames: How many; fewer where the episode ends.
            timeout_s: Longest wait; after it the browser counts as lost.

        Raises:
            StepTimeout: It took longer.
            BrowserError: The browser is gone.
        """
        browser = self._browser
        if browser is None:
            raise BrowserError("no episode runs; reset first")
        try:
            async with asyncio.timeout(timeout_s):
                for motion in motions:
                    if isinstance(motion, Point):
                        await self._point(browser, spec, motion, timeout_s)
                        continue
                    for event in key_events(motion.keys):
                        await browser.call("Input.dispatchKeyEvent", event, timeout_s=timeout_s)
                return await self._moment(browser, spec, frames, timeout_s)
        except TimeoutError as error:
            detail = f"a step of {spec.id} took longer than {timeout_s:g} s"
            browser.give_up(BrowserLoss("browser_hung", detail))
            raise StepTimeout(detail) from error

    def give_up(self, loss: BrowserLoss) -> None:
        """Counts the browser as lost. May be called from any thread."""
        if self._browser is not None:
            self._loop.call_soon_threadsafe(self._browser.give_up, loss)

    async def close(self) -> None:
        """Ends the browser and the web server. May be called twice."""
        if self._browser is not None:
            await self._browser.close()
        await self._server.close()

    async def _point(self, browser: Browser, spec: EnvSpec, point: Point, timeout_s: float) -> None:
        kind = "mouseMoved"
        if point.is_down != self._is_down:
            kind = "mousePressed" if point.is_down else "mouseReleased"
        held = self._is_down and kind == "mouseMoved"
        was_down, self._is_down = self._is_down, point.is_down
        if (was_down or point.is_down) and await browser.evaluate(
            f"raygym.takes({json.dumps(kind)}, {point.x}, {point.y})", timeout_s=timeout_s
        ):
            return
        params = {
            "type": kind,
            "x": spec.region.x + point.x,
            "y": spec.region.y + point.y,
            "button": "none" if kind == "mouseMoved" and not held else "left",
            "buttons": int(point.is_down),
            "clickCount": int(kind != "mouseMoved"),
        }
        await browser.call("Input.dispatchMouseEvent", params, timeout_s=timeout_s)

    async def _moment(
        self, browser: Browser, spec: EnvSpec, frames: int, timeout_s: float
    ) -> Moment:
        brought = await browser.evaluate(f"raygym.run({frames})", timeout_s=timeout_s)
        region = spec.region
        clip = {"x": region.x, "y": region.y, "width": region.width, "height": region.height}
        shot = await browser.call(
            "Page.captureScreenshot",
            {"format": "png", "optimizeForSpeed": True, "clip": {**clip, "scale": 1}},
            timeout_s=timeout_s,
        )
        told = brought["told"]
        return Moment(
            png=base64.b64decode(shot["data"]),
            reward=float(sum(frame["reward"] for frame in told)),
            is_over=any(frame["is_over"] for frame in told),
            info={key: value for frame in told for key, value in frame["info"].items()},
            complaints=brought["complaints"],
        )

    async def _ready(self) -> Browser:
        if self._browser is not None:
            if self._browser.loss is None:
                return self._browser
            await self._browser.close()
        started_s = time.monotonic()
        self._is_down = False
        browser = self._browser = Browser(
            self._directory,
            environment=self._screen.x_environment,
            size_px=self._screen_px,
            on_message=lambda _: None,
            flags=_FLAGS,
        )
        try:
            await browser.start(self._server.url("page/wob.html") + "?lockstep")
            await prepare(browser, has_clock=True)
        except BaseException:
            browser.give_up(BrowserLoss("browser_hung", "it did not start"))
            raise
        took_ms = 1e3 * (time.monotonic() - started_s)
        logger.info("browser.started pid=%s took_ms=%.0f", browser.pid, took_ms)
        return browser
