"""A MiniWoB task as a Gymnasium environment that owns time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import cv2
import gymnasium
import numpy as np

from raygym.catalog import EnvSpec
from raygym.core import UInt8Array
from raygym.errors import ConfigError, RaygymError, SessionLost, StepTimeout
from raygym.runtimes.browser import BrowserError, BrowserLoss
from raygym.runtimes.page_task import SEED_MAX
from raygym.runtimes.wob.lockstep_page import Moment, WobPage
from raygym.strokes import Hand

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
_SLACK_S = 1.0

T = TypeVar("T")


class WobEnv(gymnasium.Env[UInt8Array, np.int64]):
    """One task; nothing moves but by ``step``. Used from a thread beside the page's loop.

    Observations are the task's picture, uint8[H, W, 3]. An action clicks, drags or types, as
    the catalog says, and is over before the frames of its step pass. The same seed and actions
    give the same observations, rewards and ends. ``info``: ``instruction``; ``seed`` after a
    reset; ``raw_reward``, without the penalty for time, and maybe ``reason`` at the end.

    Args:
        page: Plays it, and is mended by ``reset`` when it broke; it belongs to somebody else.
        spec: What to play.
        frame_skip: Frames of one step.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset, with a fresh browser if need be.
    """

    def __init__(
        self,
        page: WobPage,
        spec: EnvSpec,
        *,
        frame_skip: int = 1,
        render_mode: str | None = None,
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": spec.fps / frame_skip,
            "fps": spec.fps,
            "env_id": spec.id,
            "actions": [list(names) for names in spec.actions],
        }
        self.render_mode = render_mode
        shape = (spec.region.height, spec.region.width, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(spec.actions))
        self._page = page
        self._spec = spec
        self._frame_skip = frame_skip
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._hand = Hand(spec.actions)
        self._instruction = ""
        self._picture: UInt8Array | None = None

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  a task has none
    ) -> tuple[UInt8Array, dict[str, Any]]:
        """Begins an episode, in a fresh browser if the old one was lost.

        Args:
            seed: Of the task's randomness; None draws one.
            options: Not looked at.

        Raises:
            RaygymError: The task did not start, in a fresh browser either.
        """
        seed = secrets.randbelow(SEED_MAX) if seed is None else seed
        self._hand.forget()
        deadline_s = time.monotonic() + self._start_timeout_s
        for attempt in range(_ATTEMPTS):
            # What is left after a first attempt must do for another browser.
            limit_s = max(0.1, (deadline_s - time.monotonic()) / (_ATTEMPTS - attempt))
            try:
                beginning = self._page.begin(self._spec, seed, timeout_s=limit_s)
                moment = self._in_loop(beginning, limit_s)
                self._instruction = moment.info.get("instruction", "")
                return self._seen(moment), {"seed": seed, **moment.info}
            except RaygymError as error:
                if attempt == _ATTEMPTS - 1 or time.monotonic() >= deadline_s:
                    raise
                logger.warning("page.retry env_id=%s cause=%s", self._spec.id, error)
                self._page.give_up(BrowserLoss("browser_hung", str(error)))
        raise AssertionError("the last attempt returns or raises")

    def step(self, action: np.int64) -> tuple[UInt8Array, float, bool, bool, dict[str, Any]]:
        """Does what an action says, and has the task run on by its frames.

        Raises:
            StepTimeout: It took too long; the browser counts as lost.
            SessionLost: The browser is gone.
        """
        motions = self._hand.motions(int(action))
        limit_s = self._step_timeout_s
        stepping = self._page.step(self._spec, motions, self._frame_skip, timeout_s=limit_s)
        try:
            moment = self._in_loop(stepping, limit_s)
        except BrowserError as error:
            loss = self._page.loss or BrowserLoss("browser_crashed", str(error))
            self._page.give_up(loss)
            raise SessionLost(f"{loss.reason}: {loss.detail} ({error.message})") from error
        info = {"instruction": self._instruction, **moment.info}
        return self._seen(moment), moment.reward, moment.is_over, False, info

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns the picture of now, uint8[H, W, 3]; None without a render mode."""
        return None if self.render_mode is None or self._picture is None else self._picture.copy()

    def _seen(self, moment: Moment) -> UInt8Array:
        for complaint in moment.complaints:
            logger.warning("page.complains env_id=%s error=%.200s", self._spec.id, complaint)
        pixels = cv2.imdecode(np.frombuffer(moment.png, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None or pixels.shape != self.observation_space.shape:
            raise SessionLost(f"{self._spec.id}: the browser gave no picture of the task")
        self._picture = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
        return self._picture

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._page.loop)
        try:
            return future.result(timeout_s + _SLACK_S)
        except TimeoutError as error:
            future.cancel()
            self._page.give_up(BrowserLoss("browser_hung", "its owner's loop stood still"))
            raise StepTimeout(f"{self._spec.id}: no answer within {timeout_s:g} s") from error
