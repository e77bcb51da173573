"""Players to compare a learner with: random, one action held down, and a driver for each game.

All choose an index into an environment's Discrete actions. The drivers look at no pixels; they
read ``info["game_state"]``, the numbers that a game reports of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from raygym.errors import ConfigError
from raygym.policies import drivers


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

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:  # noqa: ARG002 - Baseline
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

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:  # noqa: ARG002 - Baseline
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

    def act(self, observation: Any, info: Mapping[str, Any]) -> int:  # noqa: ARG002 - Baseline
        """Returns the driver's choice; without a ``game_state`` in ``info`` it does nothing."""
        state = info.get("game_state")
        return self._driver(state) if state else self._idle_action


_DRIVERS: dict[str, tuple[Callable[[drivers.GameState], int], int]] = {
    "flashgames.DuskDrive-v0": (drivers.drive_dusk_drive, 0),
    "flashgames.NeonRace-v0": (drivers.drive_neon_race, drivers.NEON_IDLE),
}
"""Per EnvId its driver and the action that presses no key."""
