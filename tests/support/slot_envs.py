"""Environments for slots: they count, and do as their action says."""

from __future__ import annotations

import threading
from typing import Any

import gymnasium
import numpy as np

from raygym.errors import RemoteFailedToStart, SessionLost

RAISES, LOSES, HANGS, ENDS = 1, 2, 3, 4
"""Actions that bring something about; 0 does not."""


class SlotEnv(gymnasium.Env):
    """Shows its slot and its steps; ``failing`` resets raise before one works."""

    action_space = gymnasium.spaces.Discrete(5)
    observation_space = gymnasium.spaces.Box(0, 255, (2, 2, 1), np.uint8)

    def __init__(self, slot: int, *, failing: int = 0) -> None:
        self.slot, self.failing = slot, failing
        self.steps = 0
        self.seed: int | None = None
        self.is_closed = False
        self.thread = threading.get_ident()
        self.threads = {self.thread}
        self.released = threading.Event()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.threads.add(threading.get_ident())
        if self.failing:
            self.failing -= 1
            raise RemoteFailedToStart("no memory; its log ends: boo")
        self.steps, self.seed = 0, seed
        return self._seen(), {"seed": seed, "options": options}

    def step(self, action: Any):
        self.threads.add(threading.get_ident())
        if action == RAISES:
            raise ValueError("told to raise")
        if action == LOSES:
            raise SessionLost("the peer is gone")
        if action == HANGS:
            self.released.wait(60)
        self.steps += 1
        return self._seen(), 1.0, action == ENDS, False, {"steps": self.steps}

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.is_closed = True
        self.released.set()

    def render(self):
        return np.full((2, 2, 3), self.slot, np.uint8)

    def _seen(self):
        return np.full((2, 2, 1), 10 * self.slot + self.steps, np.uint8)


class Made:
    """Makes SlotEnvs and keeps them.

    Args:
        failing: How many resets of each slot's first environment fail.
    """

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.envs: list[SlotEnv] = []
        self.refusals: list[Exception] = []
        """Raised by the next calls, one each."""

    def __call__(self, slot: int) -> SlotEnv:
        if self.refusals:
            raise self.refusals.pop(0)
        is_first = all(env.slot != slot for env in self.envs)
        env = SlotEnv(slot, failing=self.failing if is_first else 0)
        self.envs.append(env)
        return env
