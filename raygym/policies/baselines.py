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


_DUSK_IDLE, _DUSK_UP, _DUSK_UP_LEFT, _DUSK_UP_RIGHT, _DUSK_LEFT, _DUSK_RIGHT = 0, 1, 2, 3, 4, 5
_DUSK_DOWN, _DUSK_SLIDE_LEFT, _DUSK_SLIDE_RIGHT = 6, 7, 8


def drive_dusk_drive(state: GameState) -> int:
    """Steers at the next lantern, slows for the turn behind it and backs out of corners."""
    speed = state["speed"]
    ahead, side = state["lamp0_ahead"], state["lamp0_side"]
    if math.hypot(ahead, side) < 75:
        near = 0.5
        ahead += near * (state["lamp1_ahead"] - ahead)
        side += near * (state["lamp1_side"] - side)
    bearing = math.atan2(side, ahead)
    turn = max(
        abs(_wrapped(_lamp_course(state, k) - bearing)) for k in range(4)
    )
    gap_to_turn = next(
        (
            math.hypot(state[f"lamp{k}_ahead"], state[f"lamp{k}_side"])
            for k in range(4)
            if abs(_wrapped(_lamp_course(state, k) - bearing)) > 0.8
        ),
        999.0,
    )
    if abs(bearing) > 1.9 and speed < 2.0:
        return _DUSK_UP_LEFT if bearing < 0 else _DUSK_UP_RIGHT
    top = 12.5
    if turn > 0.8:
        top = max(6.8, min(top, 6.8 + gap_to_turn / 34.0))
    top = min(top, max(3.5, 11.0 - 4.5 * abs(bearing)))
    wish = bearing - 2.2 * state["steer"] * 0.08
    if speed > top + 0.8:
        return _DUSK_DOWN if abs(wish) < 0.35 else (_DUSK_SLIDE_LEFT if wish < 0 else _DUSK_SLIDE_RIGHT)
    if wish < -0.06:
        return _DUSK_UP_LEFT if speed < top else _DUSK_LEFT
    if wish > 0.06:
        return _DUSK_UP_RIGHT if speed < top else _DUSK_RIGHT
    return _DUSK_UP if speed < top else _DUSK_IDLE


def _lamp_course(state: GameState, index: int) -> float:
    """Bearing from one lantern to the next, seen from the car."""
    return math.atan2(
        state[f"lamp{index + 1}_side"] - state[f"lamp{index}_side"],
        state[f"lamp{index + 1}_ahead"] - state[f"lamp{index}_ahead"],
    )


def _wrapped(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


_DRIVERS: dict[str, tuple[Callable[[GameState], int], int]] = {
    "flashgames.DuskDrive-v0": (drive_dusk_drive, _DUSK_IDLE),
    "flashgames.NeonRace-v0": (drive_neon_race, _NEON_IDLE),
}
