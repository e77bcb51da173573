"""Catch, the smallest game with pixels and keys: a ball falls, a paddle may catch it.

It needs no program but this one, so it serves as the fake among the runtimes: real RFB, the
real reward protocol, a real timing strip.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raygym.catalog import Catalog, load_catalog
from raygym.core import UInt8Array
from raygym.errors import ConfigError
from raygym.runtimes.host import Reports
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire import timing
from raygym.wire.keysyms import keysym
from raygym.wire.rfb_server import KeyEvent
from raygym.wire.timing import TimingMark

ENV_ID = "test.Catch-v0"
SIZE_PX = 84
TIMING_STRIP_PX = (0, 86)

_BALL_PX = 8
_PADDLE_PX = (28, 6)
_SPEED_PX = 4


@dataclass
class CatchGame:
    """The rules, without a clock or a screen.

    Args:
        seed: Where the ball falls.
    """

    seed: int

    def __post_init__(self) -> None:
        self.ball_x = random.Random(self.seed).randrange(0, SIZE_PX - _BALL_PX + 1)  # noqa: S311
        self.ball_y = 0
        self.paddle_x = (SIZE_PX - _PADDLE_PX[0]) // 2
        self.is_over = False

    def tick(self, direction: Literal[-1, 0, 1]) -> float:
        """Moves paddle and ball by one frame; returns the reward: 1 caught, -1 missed, else 0."""
        if self.is_over:
            return 0.0
        self.paddle_x = min(SIZE_PX - _PADDLE_PX[0], max(0, self.paddle_x + direction * _SPEED_PX))
        self.ball_y += _SPEED_PX
        if self.ball_y + _BALL_PX < SIZE_PX - _PADDLE_PX[1]:
            return 0.0
        self.is_over = True
        is_caught = self.paddle_x - _BALL_PX < self.ball_x < self.paddle_x + _PADDLE_PX[0]
        return 1.0 if is_caught else -1.0

    def paint(self, pixels: UInt8Array) -> None:
        """Paints uint8[84, 84, 3]."""
        pixels[:] = 0
        pixels[self.ball_y : self.ball_y + _BALL_PX, self.ball_x : self.ball_x + _BALL_PX] = 255
        pixels[-_PADDLE_PX[1] :, self.paddle_x : self.paddle_x + _PADDLE_PX[0]] = 255

    def state(self) -> dict[str, float]:
        """Returns what a scripted player reads."""
        return {
            "ball_x": self.ball_x + _BALL_PX / 2,
            "ball_y": float(self.ball_y),
            "paddle_x": self.paddle_x + _PADDLE_PX[0] / 2,
        }


class CatchTask:
    """Catch as a Task, in real time on the event loop's clock.

    Args:
        screen: Where it paints, and whose keys it hears.
        catalog: Where its frame rate stands.
        unix_time: Unix time in seconds, for the timing strip.
    """

    runtime = "catch"
    env_ids = (ENV_ID,)

    def __init__(
        self,
        screen: PaintedScreen,
        *,
        catalog: Catalog | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        catalog = catalog or load_catalog()
        width_px, height_px = catalog.runtime(self.runtime).screen_px
        self.manifest: Mapping[str, Any] = {
            "modes": ["realtime"],
            "screen": [width_px, height_px],
            "timing_strip": list(TIMING_STRIP_PX),
        }
        self._period_s = 1.0 / catalog.env(ENV_ID).fps
        self._screen = screen
        self._unix_time = unix_time
        self._pixels: UInt8Array = np.zeros((height_px, width_px, 3), dtype=np.uint8)
        self._held: set[int] = set()
        self._left, self._right = keysym("ArrowLeft"), keysym("ArrowRight")
        self._input_at_ms = timing.stamp_ms(unix_time())
        self._input_count = 0
        self._reports: Reports | None = None
        self._playing: asyncio.Task[None] | None = None

    async def start(self, reports: Reports) -> None:
        """Starts to hear keys."""
        self._reports = reports
        self._screen.on_key = self._on_key

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:  # noqa: ARG002
        """Drops a new ball; keys held before are forgotten.

        Args:
            env_id: ``test.Catch-v0``.
            seed: Decides where the ball falls; None draws one.
            fps: Not used: the game has its own rate.
        """
        if env_id != ENV_ID:
            raise ConfigError(f"unknown environment {env_id!r} of catch. Known: {ENV_ID}")
        await self._stop_playing()
        seed = random.randrange(2**31) if seed is None else seed  # noqa: S311
        self._held.clear()
        self._playing = asyncio.create_task(self._play(CatchGame(seed), seed))
        self._playing.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends the game. May be called twice."""
        await self._stop_playing()

    async def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])

    def _ended(self, playing: asyncio.Task[None]) -> None:
        if playing.cancelled() or (error := playing.exception()) is None:
            return
        assert self._reports is not None  # noqa: S101  started before
        self._reports.failed("game_broken", f"{type(error).__name__}: {error}")

    async def _play(self, game: CatchGame, seed: int) -> None:
        assert self._reports is not None  # noqa: S101  started before
        loop = asyncio.get_running_loop()
        info: dict[str, Any] = {"seed": seed}
        due_s = loop.time()
        while not game.is_over:
            self._paint(game)
            due_s = max(due_s + self._period_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            direction = (self._right in self._held) - (self._left in self._held)
            reward = game.tick(1 if direction > 0 else -1 if direction < 0 else 0)
            info["game_state"] = game.state()
            if game.is_over:
                self._paint(game)
            self._reports.reward(reward, done=game.is_over, info=info)
            info = {}

    def _paint(self, game: CatchGame) -> None:
        game.paint(self._pixels[:SIZE_PX, :SIZE_PX])
        mark = TimingMark(timing.stamp_ms(self._unix_time()), self._input_at_ms, self._input_count)
        timing.paint(self._pixels, *TIMING_STRIP_PX, mark)
        self._screen.paint(self._pixels)

    def _on_key(self, event: KeyEvent) -> None:
        self._input_at_ms = timing.stamp_ms(self._unix_time())
        self._input_count = (self._input_count + 1) % 256
        if event.is_down:
            self._held.add(event.keysym)
        else:
            self._held.discard(event.keysym)
