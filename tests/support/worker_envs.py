"""Environments that go wrong in processes of their own, as their actions or files say."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from raygym.core import UInt8Array
from raygym.errors import ConfigError

NOTHING, RAISE, HANG, DIE, EXIT, END, WRONG_SHAPE, LOSE = range(8)
USUAL_STEP_S, SLOW_STEP_S = 0.002, 0.1


class FaultyEnv(gymnasium.Env[UInt8Array, int]):
    """Its observation says its slot, how often it was made, its episode, and its steps.

    Args:
        slot: Which one it is.
        directory: Holds a file for each time that it was made, and ``refuse``: lines of
            ``make SLOT COUNT`` or ``reset SLOT COUNT``, how often that fails.
        slow_after: Steps after which the environment of slot 0 is slow, the first time it is
            made; None for never, and for steps that take no time.
    """

    remotes_started, remotes_lost, remote_id = 0, 0, ""

    def __init__(self, slot: int, directory: Path, slow_after: int | None = None) -> None:
        self._slot, self._directory = slot, directory
        self._made = count_up(directory / f"made-{slot}")
        self._refuse("make")
        self._slow_after = slow_after
        self._episode = self._steps = 0
        self.observation_space = gymnasium.spaces.Box(0, 255, (4,), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8Array, dict[str, Any]]:
        self._refuse("reset")
        self.remotes_started, self.remote_id = 1, f"r-{self._slot}"
        self._episode, self._steps = self._episode + 1, 0
        return self._observation(), {"seed": seed} if seed is not None else {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == RAISE:
            raise ZeroDivisionError("one over nothing")
        if action == HANG:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            time.sleep(600)
        if action == DIE:
            os.kill(os.getpid(), signal.SIGSEGV)
        if action == EXIT:
            raise SystemExit(3)
        self._steps += 1
        if self._slow_after is not None:
            is_slow = (self._slot, self._made) == (0, 1) and self._steps > self._slow_after
            time.sleep(SLOW_STEP_S if is_slow else USUAL_STEP_S)
        observation = np.zeros((4, 1)) if action == WRONG_SHAPE else self._observation()
        if action == LOSE:
            return observation, 0.0, False, True, {"outcome": "infra_failure", "reason": "lost"}
        return observation, 1.0, action == END, False, {}

    def _observation(self) -> UInt8Array:
        return np.array([self._slot, self._made, self._episode, self._steps % 256], np.uint8)

    def _refuse(self, what: str) -> None:
        path = self._directory / "refuse"
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            kind, slot, times = line.split()
            if (kind, int(slot)) != (what, self._slot):
                continue
            if count_up(self._directory / f"refused-{what}-{slot}") <= int(times):
                raise OSError(f"no {what} yet")


class NeverEnv(gymnasium.Env[UInt8Array, int]):
    """Cannot be made."""

    def __init__(self, slot: int) -> None:
        raise ConfigError(f"slot {slot} makes no sense")


def never_from_second(slot: int) -> gymnasium.Env[Any, Any]:
    """Makes an environment of the first slot alone."""
    return NeverEnv(slot) if slot else gymnasium.make("CartPole-v1")


def cart_or_ice(slot: int) -> gymnasium.Env[Any, Any]:
    """Makes environments of different spaces."""
    return gymnasium.make("FrozenLake-v1" if slot else "CartPole-v1")


def count_up(path: Path) -> int:
    """Returns how often this was called with a path."""
    with path.open("a", encoding="ascii") as file:
        file.write(".")
    return path.stat().st_size
