"""An environment of any spaces whose every step follows from its seed, for comparisons."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SPACES: dict[str, gymnasium.Space[Any]] = {
    "box": spaces.Box(0, 255, (4, 3), np.uint8),
    "floats": spaces.Box(-1, 1, (), np.float32),
    "discrete": spaces.Discrete(5, start=2),
    "multi discrete": spaces.MultiDiscrete([3, 4]),
    "multi binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float64)}),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (2,), np.int64))),
    "text": spaces.Text(4),
}


class VariedEnv(gymnasium.Env[Any, Any]):
    """Shows samples of its space; episodes end, or are cut, after a few steps.

    Args:
        slot: Sets the length of the episodes.
        observation: Name in SPACES.
        action: Name in SPACES; the info of a step holds the action.
    """

    def __init__(self, slot: int, observation: str = "box", action: str = "discrete") -> None:
        self.observation_space = copy.deepcopy(SPACES[observation])
        self.action_space = copy.deepcopy(SPACES[action])
        self._slot = slot
        self._steps = 0
        self._episodes = 0
        self._seed = slot

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._seed = seed
        self._steps = 0
        self._episodes += 1
        info: dict[str, Any] = {"begun": self._episodes}
        if options:
            info["options"] = sorted(options)
        return self._observation(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        is_end = self._steps == 2 + self._slot
        is_cut = is_end and self._episodes % 2 == 0
        info: dict[str, Any] = {}
        if self._steps % 2:
            info = {"steps": self._steps, "nested": {"half": self._steps / 2}, "name": "odd"}
        elif self._slot % 2:
            info = {"array": np.arange(3) + self._steps}
        info["action"] = repr(action if not isinstance(action, np.generic) else action.item())
        return self._observation(), self._steps * 0.5, is_end and not is_cut, is_cut, info

    def _observation(self) -> Any:
        number = self._seed * 1000 + self._episodes * 100 + self._steps
        if isinstance(self.observation_space, spaces.Text):
            # Its samples depend on how this process hashes strings.
            return str(number % 1000)
        self.observation_space.seed(number)
        return self.observation_space.sample()
