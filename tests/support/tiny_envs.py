"""Small environments that live in memory, for tests of what stands above a real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from raygym.core import UInt8Array
from raygym.errors import RemoteFailedToStart

SHAPE = (12, 12, 1)


class CountingEnv(gymnasium.Env[UInt8Array, int]):
    """Every pixel of an observation is the number of steps taken since the env was made.

    Args:
        script: What each episode does, over and over: ``"ok:3"`` terminates with its third
            step, ``"cut:3"`` is truncated there, and ``"infra_failure:3"`` or
            ``"env_failure:3"`` fail there.
        pace: Waited for before each step if given, one permit a step.
        refused_resets: Number of first resets that raise RemoteFailedToStart.
        step_s: How long a step takes.
    """

    def __init__(
        self,
        script: Sequence[str] = ("ok:5",),
        *,
        pace: threading.Semaphore | None = None,
        refused_resets: int = 0,
        step_s: float = 0.0,
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.script = [part.split(":") for part in script]
        self.pace = pace
        self.refused_resets = refused_resets
        self.step_s = step_s
        self.seeds: list[int | None] = []
        self.count = 0
        self.episode = -1
        self.step_in_episode = 0
        self.is_closed = False
        self.remotes_started = 0
        self.remotes_lost = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8Array, dict[str, Any]]:
        if self.refused_resets:
            self.refused_resets -= 1
            raise RemoteFailedToStart("remote r-1 did not get ready: the log says no")
        self.remotes_started = 1 + self.remotes_lost
        self.seeds.append(seed)
        self.episode += 1
        self.step_in_episode = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[UInt8Array, float, bool, bool, dict[str, Any]]:
        if self.pace is not None:
            assert self.pace.acquire(timeout=10), "the test gave no permit to step"
        time.sleep(self.step_s)
        self.count += 1
        self.step_in_episode += 1
        kind, length = self.script[self.episode % len(self.script)]
        is_over = self.step_in_episode == int(length)
        info: dict[str, Any] = {
            "outcome": "ok",
            "reaction_time_ms": 20.0 + self.count,
            "action_lag_ms": None,
            "stats": {"vnc_updates": 2, "vnc_bytes": 100},
        }
        if is_over and kind.endswith("failure"):
            info |= {"outcome": kind, "reason": "it broke"}
            self.remotes_lost += kind == "infra_failure"
        return (
            self._observation(),
            1.0,
            is_over and kind == "ok",
            is_over and kind != "ok",
            info,
        )

    def close(self) -> None:
        self.is_closed = True

    def _observation(self) -> UInt8Array:
        return np.full(SHAPE, self.count % 256, np.uint8)


class ChoiceEnv(gymnasium.Env[UInt8Array, int]):
    """One bright column of three says which action is right; 10 steps, +1 or -1 each."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._steps = 0
        self._right = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._next(), {}

    def step(self, action: int) -> tuple[UInt8Array, float, bool, bool, dict[str, Any]]:
        reward = 1.0 if action == self._right else -1.0
        self._steps += 1
        info = {"outcome": "ok", "reaction_time_ms": 25.0}
        return self._next(), reward, self._steps == 10, False, info

    def _next(self) -> UInt8Array:
        self._right = int(self.np_random.integers(3))
        picture = np.zeros(SHAPE, np.uint8)
        picture[:, 4 * self._right : 4 * self._right + 4] = 255
        return picture
