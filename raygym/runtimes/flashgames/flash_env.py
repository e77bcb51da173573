"""A Flash game as a Gymnasium environment that owns time."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import time
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import cv2
import gymnasium
import numpy as np

from raygym.catalog import Game
from raygym.core import UInt8Array
from raygym.errors import ConfigError, RaygymError, SessionLost, StepTimeout
from raygym.runtimes.browser import BrowserError, BrowserLoss
from raygym.runtimes.flashgames.lockstep_page import LockstepPage
from raygym.runtimes.flashgames.page_link import PageLink
from raygym.runtimes.page_task import SEED_MAX

logger = logging.getLogger(__name__)

_LOOK = b'{"kind": "look"}'
_ATTEMPTS = 2
_OVERSAMPLING = 2.0
_LOST_WAIT_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class SmallPicture:
    """What is wanted of a game's picture: no larger than it is there."""

    crop: tuple[int, int, int, int]
    """The part that is seen: x, y, width and height in the game's pixels."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    is_grey: bool
    """One channel of luma instead of three of RGB."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of such pictures: height, width, channels."""
        return self.height, self.width, 1 if self.is_grey else 3


def paint_divisor(width: int, height: int, small: SmallPicture) -> int:
    """Returns how many times smaller than the game its pictures are painted.

    To paint is the dearest part of a step. A picture still has ``_OVERSAMPLING`` times the
    pixels across that are wanted of it, and whole ones, so that hardly anything can be told
    apart: NeonRace at half size differs by 1.2 of 255 on average once it is scaled to 96x72.

    Args:
        width: Of the game, in pixels.
        height: Of the game, in pixels.
        small: What is wanted.
    """
    _, _, seen_width, seen_height = small.crop
    most = int(min(seen_width / small.width, seen_height / small.height) / _OVERSAMPLING)
    sides = (width, height, *small.crop)
    return next((n for n in range(most, 1, -1) if all(side % n == 0 for side in sides)), 1)


class FlashEnv(gymnasium.Env[UInt8Array, np.int64]):
    """One Flash game; nothing moves but by ``step``. Used from a thread beside the page's loop.

    Observations are the game's whole picture, uint8[H, W, 3], or what is wanted of it. An
    action holds its keys down for all frames of a step. The same seed and actions give the
    same observations, rewards and ends. ``info``: ``seed`` after a reset, ``game_state`` where
    the game tells it, ``reason`` at the time limit.

    Args:
        page: Plays it, and is mended by ``reset`` when it broke; it belongs to somebody else.
        game: What to play.
        frame_skip: Frames of one step.
        picture: Cropped, scaled down and maybe grey by the page itself, within 1 of what OpenCV
            makes of what was painted; see ``paint_divisor``. None for the whole.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset, with a fresh browser if need be.
    """

    def __init__(
        self,
        page: LockstepPage,
        game: Game,
        *,
        frame_skip: int = 1,
        picture: SmallPicture | None = None,
        render_mode: str | None = None,
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        spec = game.spec
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": spec.fps / frame_skip,
            "fps": spec.fps,
            "env_id": spec.id,
            "actions": [list(keys) for keys in spec.actions],
        }
        self.render_mode = render_mode
        self._height, self._width = spec.region.height, spec.region.width
        shape = (self._height, self._width, 3) if picture is None else picture.shape
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(spec.actions))
        self._orders = [
            json.dumps({"kind": "step", "keys": keys, "frames": frame_skip}).encode()
            for keys in spec.actions
        ]
        self._page = page
        self._game = game
        self._small = picture
        self._divisor = 1
        if picture is not None:
            self._divisor = paint_divisor(self._width, self._height, picture)
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._link: PageLink | None = None

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  a game has none
    ) -> tuple[UInt8Array, dict[str, Any]]:
        """Begins an episode, in a fresh browser if the old one was lost.

        Args:
            seed: Of the game's own generator; None draws one.
            options: Not looked at.

        Raises:
            RaygymError: The game did not start, in a fresh browser either.
        """
        seed = secrets.randbelow(SEED_MAX) if seed is None else seed
        deadline_s = time.monotonic() + self._start_timeout_s
        for attempt in range(_ATTEMPTS):
            try:
                said, picture = self._begin(seed, deadline_s)
                return picture, {"seed": seed, **_state(said)}
            except RaygymError as error:
                if attempt == _ATTEMPTS - 1 or time.monotonic() >= deadline_s:
                    raise
                logger.warning("flash.retry env_id=%s cause=%s", self._game.spec.id, error)
        raise AssertionError("the last attempt returns or raises")

    def step(self, action: np.int64) -> tuple[UInt8Array, float, bool, bool, dict[str, Any]]:
        """Holds the keys of an action down, and has the game run on by its frames.

        Raises:
            StepTimeout: It took too long; the browser counts as lost.
            SessionLost: The browser is gone.
        """
        said, picture = self._ask(self._orders[int(action)], self._step_timeout_s)
        info = _state(said)
        is_over, is_time_up = bool(said["is_over"]), bool(said["is_time_up"])
        if is_time_up:
            info["reason"] = "time_limit"
        return picture, float(said["reward"]), is_over, is_time_up, info

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns the whole picture of now, uint8[H, W, 3]; None without a render mode.

        It is scaled up where the page paints less than that.

        Raises:
            StepTimeout, SessionLost: As ``step``.
        """
        if self.render_mode is None:
            return None
        _, picture = self._ask(_LOOK, self._step_timeout_s, is_whole=True)
        size = (self._width, self._height)
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    def close(self) -> None:
        """Forgets the page, which plays on for others. May be called twice."""
        self._link = None

    def _begin(self, seed: int, deadline_s: float) -> tuple[Mapping[str, Any], UInt8Array]:
        left_s = max(0.1, deadline_s - time.monotonic())
        self._link = self._in_loop(self._page.link(), left_s)
        order = {
            **self._page.order(self._game, seed),
            "picture": None if self._small is None else asdict(self._small),
            "paint_divisor": self._divisor,
        }
        # What is left after a first attempt must do for another browser.
        limit_s = max(0.1, (deadline_s - time.monotonic()) / _ATTEMPTS)
        return self._ask(json.dumps(order).encode(), limit_s)

    def _ask(
        self, order: bytes, timeout_s: float, *, is_whole: bool = False
    ) -> tuple[Mapping[str, Any], UInt8Array]:
        """Gives an order; returns what the page said, and the picture."""
        if self._link is None:
            raise SessionLost("no episode runs; reset first")
        size = [self._width // self._divisor, self._height // self._divisor]
        small = None if is_whole else self._small
        shape = (size[1], size[0], 4) if small is None else small.shape
        max_bytes = math.prod(shape)
        try:
            said, sent = self._link.ask(order, max_bytes=max_bytes, timeout_s=timeout_s)
            if said["size"] != size or len(sent) != max_bytes:
                raise SessionLost(f"the game's picture has the size {said['size']}, not {size}")
        except StepTimeout as error:
            self._page.give_up(BrowserLoss("browser_hung", error.message))
            self._link = None
            raise
        except SessionLost as error:
            self._link = None
            raise self._lost(error) from error
        pixels = sent.reshape(shape)
        if small is not None:
            return said, pixels.copy()
        return said, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), np.uint8)

    def _lost(self, error: SessionLost) -> SessionLost:
        """Returns the error with what the browser's own process has to say."""
        deadline_s = time.monotonic() + _LOST_WAIT_S
        # The page hangs up a moment before its browser says why.
        while self._page.loss is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        loss = self._page.loss or BrowserLoss("browser_crashed", error.message)
        self._page.give_up(loss)
        return SessionLost(f"{loss.reason}: {loss.detail} ({error.message})")

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._page.loop)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise BrowserError(f"no browser within {timeout_s:g} s") from error


def _state(said: Mapping[str, Any]) -> dict[str, Any]:
    return {} if said["state"] is None else {"game_state": said["state"]}
