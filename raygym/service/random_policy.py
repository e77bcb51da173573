"""A policy that draws its actions evenly, for a service that is given none."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Acted, Float32Array


class RandomActions:
    """Draws from the action space; its values are 0.

    Args:
        action_space: Of one slot.
        seed: Of the draws, with ``number``.
        number: Which of several such policies this is.
    """

    def __init__(self, action_space: gymnasium.Space[Any], *, seed: int, number: int) -> None:
        self.weights_version = 0
        self._space = action_space
        self._random = np.random.default_rng(np.random.SeedSequence([seed, number]))
        action_space.seed(int(self._random.integers(2**31)))

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:  # noqa: ARG002
        """Returns nothing."""
        return ()

    def act(self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]) -> Acted:
        """Draws one action for each of [B, ...] observations."""
        count = len(observations)
        space = self._space
        if isinstance(space, gymnasium.spaces.Discrete):
            first, choices = int(space.start), int(space.n)
            actions = self._random.integers(first, first + choices, size=count)
            log_probability = -math.log(choices)
        else:
            actions = np.stack([space.sample() for _ in range(count)])
            log_probability = 0.0
        zeros = np.zeros(count, np.float32)
        return Acted(actions, zeros + np.float32(log_probability), zeros, state)

    def values(
        self,
        observations: npt.NDArray[Any],
        state: tuple[Float32Array, ...],  # noqa: ARG002
    ) -> Float32Array:
        """Returns zeros, float32[B]."""
        return np.zeros(len(observations), np.float32)

    def set_weights(self, weights: Any, version: int) -> None:  # noqa: ARG002
        """Keeps the version; there is nothing to learn."""
        self.weights_version = version
