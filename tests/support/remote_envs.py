"""Environments for both ends of tests: what is hosted, and the same here to compare with."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.support.random_env import RandomEnv

NESTED = spaces.Dict(
    {
        "box": spaces.Box(-1, 1, (2, 3), np.float32),
        "count": spaces.Box(-5, 5, (), np.int16),
        "pair": spaces.Tuple([spaces.Discrete(3, start=2), spaces.MultiBinary(3)]),
        "many": spaces.MultiDiscrete([2, 5]),
        "say": spaces.Text(4, min_length=0),
        "deep": spaces.Dict({"more": spaces.Tuple([spaces.Box(0, 255, (4, 4, 3), np.uint8)])}),
    }
)


class ToldEnv(RandomEnv):
    """A RandomEnv whose episodes differ in length and whose infos differ in everything."""

    def __init__(self, length: int = 5) -> None:
        super().__init__(NESTED, NESTED)
        self._length = length
        self._total = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, _ = super().reset(seed=seed)
        if seed is not None:
            self._total = seed % 3
        return observation, {"options": options, "episode": {"seed": seed, "total": self._total}}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, _ = super().step(action)
        self._total += 1
        is_over = self._total % self._length == 0
        info: dict[str, Any] = {"array": np.arange(3) * self._total}
        if self._total % 2:
            info |= {"odd": True, "name": f"step {self._total}", "half": self._total / 2}
        return observation, reward, is_over, is_over and self._total % 2 == 0, info


def told(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return ToldEnv(**kwargs)


class Film(gymnasium.Env[Any, Any]):
    """Pictures of random numbers, which its seed decides."""

    def __init__(self, height: int = 768, width: int = 1024) -> None:
        shape = (height, width, 3)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(2)
        self._pictures = np.zeros((4, *shape), np.uint8)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._pictures = self.np_random.integers(0, 256, self._pictures.shape, np.uint8)
        self._steps = 0
        return self._pictures[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._pictures[self._steps % 4], 0.0, False, False, {}


def film(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return Film(**kwargs)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal in type, dtype and every bit; dicts in any order.

    A numpy scalar and an array without axes count as one type.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, np.ndarray) and left.dtype == object:
        return type(left) is type(right) and same(left.tolist(), right.tolist())
    if isinstance(left, list | tuple):
        return (
            type(left) is type(right)
            and len(left) == len(right)
            and all(same(a, b) for a, b in zip(left, right, strict=True))
        )
    if isinstance(left, np.ndarray | np.generic):
        return (
            isinstance(right, np.ndarray | np.generic)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    return type(left) is type(right) and left == right
