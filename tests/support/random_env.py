"""An environment of any spaces, whose observations are samples that its seed decides."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np


class RandomEnv(gymnasium.Env[Any, Any]):
    """Ends each episode after eight steps; an action outside the space is a failed assertion.

    Args:
        action_space: Of actions.
        observation_space: Of observations. Infinite bounds give numbers near 0.
    """

    def __init__(
        self, action_space: gymnasium.Space[Any], observation_space: gymnasium.Space[Any]
    ) -> None:
        self.action_space = action_space
        self.observation_space = copy.deepcopy(observation_space)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (action, self.action_space)
        self._steps += 1
        reward = float(np.float32(0.25 * self._steps))
        return self.observation_space.sample(), reward, self._steps == 8, False, {}
