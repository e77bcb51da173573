"""Players to compare a learner with: random, one action held down, and a driver for each game.

All choose an index into an environment's Discrete actions. The drivers look at no pixels; they
read ``info["game_state"]``, the numbers that a game reports of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from raygym.errors import ConfigError

GameState = Mapping[str, float]


class Baseline(Protocol):
    """Something that plays without having learned."""

    def reset(self, seed: int | None) -> None:
        """Prepares for an episode."""
        ...

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:
        """Chooses an action.

        Args:
            observation: What the environment returned last; ignored by all of these.
            info: What came with it.

        Returns:
            An index into the environment's Discrete actions.
        """
        ...


class RandomPolicy:
    """Chooses every action with the same probability.

    Args:
        action_count: Size of the environment's Discrete action space.
    """

    def __init__(self, action_count: int) -> None:
        if action_count < 1:
            raise ConfigError(
                f"RandomPolicy: action_count: expected 1 or more, got {action_count}; "
                "give the size of the environment's Discrete action space"
            )
        self._action_count = action_count
        self._generator = np.random.default_rng()

    def reset(self, seed: int | None) -> None:
        """Starts the stream of choices that belongs to ``seed``; None starts an unknown one."""
        self._generator = np.random.default_rng(seed)

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:
        """Returns any action."""
        return int(self._generator.integers(self._action_count))


class HoldPolicy:
    """Chooses the same action for ever.

    Args:
        action: Index into the environment's Discrete actions.
    """

    def __init__(self, action: int) -> None:
        self._action = action

    def reset(self, seed: int | None) -> None:
        """Does nothing."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:
        """Returns the action that was given at the start."""
        return self._action


class ScriptedPolicy:
    """Drives one of the built-in games from the state that it reports.

    Args:
        env_id: EnvId of the game.

    Raises:
        ConfigError: There is no driver for that environment.
    """

    def __init__(self, env_id: str) -> None:
        if env_id not in _DRIVERS:
            raise ConfigError(
                f"ScriptedPolicy: no scripted driver for {env_id!r}. "
                f"There is one for: {', '.join(sorted(_DRIVERS))}"
            )
        self._driver, self._idle_action = _DRIVERS[env_id]

    def reset(self, seed: int | None) -> None:
        """Does nothing: each choice depends on the state alone."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:
        """Returns the driver's choice; without a ``game_state`` in ``info`` it does nothing."""
        state = info.get("game_state")
        return self._driver(state) if state else self._idle_action


_NEON_LEFT, _NEON_RIGHT, _NEON_UP, _NEON_UP_LEFT, _NEON_UP_RIGHT = 0, 1, 2, 3, 4
_NEON_DOWN, _NEON_NITRO, _NEON_IDLE = 5, 6, 7


def drive_neon_race(state: GameState) -> int:
    """Keeps to the best lane, flat out, and burns nitro where the road allows it."""
    target = _neon_lane(state)
    speed = state["speed"]
    authority = 0.058 * min(1.0, 0.25 * min(1.0, speed * 6) + 0.8 * speed)
    pull = 0.0082 * state["bend_near"] * speed * speed
    glide = state["lane"] + state["steer"] * authority * 2.0 - pull * 3.0
    error = target - glide
    if abs(state["lane"]) > 0.85 and abs(pull) > authority * 0.95 and speed > 0.8:
        return _NEON_LEFT if pull < 0 else _NEON_RIGHT
    if error > 0.07:
        return _NEON_UP_RIGHT
    if error < -0.07:
        return _NEON_UP_LEFT
    calm = abs(state["bend_near"]) < 3.2 and abs(state["bend_far"]) < 3.8
    return _NEON_NITRO if calm and state["nitro"] > 0.15 else _NEON_UP


def _neon_lane(state: GameState) -> float:
    """Where across the road to be: on a pick-up, inside the next bend, beside the rivals."""
    wish = max(-0.4, min(0.4, 0.09 * state["bend_near"]))
    if 0 < state["pickup_gap"] < 26:
        wish = state["pickup_lane"]
    lanes = np.linspace(-0.8, 0.8, 17)
    costs = (lanes - wish) ** 2 + 0.25 * (lanes - state["lane"]) ** 2
    for index in range(3):
        closing = max(0.05, state["speed"] - state[f"rival{index}_speed"])
        gap = state[f"rival{index}_gap"]
        frames = gap / (closing * 1.6)
        if gap < -1.3 or frames > 40:
            continue
        distance = np.abs(lanes - state[f"rival{index}_lane"])
        costs += 4.0 * np.clip(0.52 - distance, 0, None) / 0.52 * (1.0 if frames < 25 else 0.5)
        # A car that is beside or right ahead must not be crossed.
        if gap < 3.0:
            side = math.copysign(1.0, state["lane"] - state[f"rival{index}_lane"])
            crossed = (lanes - state[f"rival{index}_lane"]) * side < 0.1
            costs += np.where(crossed, 3.0, 0.0)
    return float(lanes[int(np.argmin(costs))])


_DRIVERS: dict[str, tuple[Callable[[GameState], int], int]] = {
    "flashgames.NeonRace-v0": (drive_neon_race, _NEON_IDLE),
}
