"""An environment that costs nothing and shows a lot, for benchmarks of what lies between."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

SHAPE = (210, 160, 3)
STEPS = 100


class Pictures(gymnasium.Env[Any, Any]):
    """The same picture again and again."""

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self._picture = np.zeros(SHAPE, np.uint8)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._picture, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._picture, 0.0, self._steps == STEPS, False, {}


gymnasium.register("Pictures-v0", entry_point=Pictures, disable_env_checker=True)
