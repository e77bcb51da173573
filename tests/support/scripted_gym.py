"""A Gymnasium environment that does as its action says, for tests of what hosts one.

The id ``raygym_tests/Scripted-v0`` is known once this module is imported; by the name
``tests.support.scripted_gym:raygym_tests/Scripted-v0`` Gymnasium imports it by itself.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import gymnasium
import numpy as np

from raygym.core import UInt8Array

GYM_ID = "raygym_tests/Scripted-v0"
SYNC_ID = "raygym_tests/ScriptedSync-v0"
SIZE_PX = (48, 32)
KEYS = {(): 0, ("r",): 1, ("x",): 2, ("h",): 3, ("e",): 4, ("q",): 5, ("n",): 6}
NOTHING, REWARD, RAISE, HANG, END, EXIT, NAN = range(7)


class ScriptedEnv(gymnasium.Env[int, int]):
    """Its picture's red says which action came last, green how many steps were taken."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 50}
    made: ClassVar[list[ScriptedEnv]] = []
    may_go_on: ClassVar[threading.Event] = threading.Event()

    def __init__(self, render_mode: str | None = None) -> None:
        self.action_space = gymnasium.spaces.Discrete(len(KEYS))
        self.observation_space = gymnasium.spaces.Discrete(1000)
        self.render_mode = render_mode
        self.steps = 0
        self.last = NOTHING
        self.seeds: list[int | None] = []
        self.is_closed = False
        self.made.append(self)

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        return KEYS

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        self.seeds.append(seed)
        self.steps, self.last = 0, NOTHING
        return 0, {"level": 7}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if action == RAISE:
            raise ZeroDivisionError("one over nothing")
        if action == HANG:
            self.may_go_on.wait(60)
        if action == EXIT:
            raise SystemExit(3)
        self.steps += 1
        self.last = action
        reward = {REWARD: 1.5, NAN: float("nan")}.get(action, 0.0)
        info = {"steps": np.int64(self.steps), "array": np.zeros(3), "bad": float("inf")}
        return self.steps, reward, action == END, False, info

    def render(self) -> UInt8Array:  # type: ignore[override]
        picture = np.zeros((SIZE_PX[1], SIZE_PX[0], 3), np.uint8)
        picture[:] = (self.last * 30, min(self.steps, 255), 200)
        return picture

    def close(self) -> None:
        self.is_closed = True


if GYM_ID not in gymnasium.registry:
    gymnasium.register(GYM_ID, ScriptedEnv, max_episode_steps=500)
