"""What a ServiceEnvRunner asks of its RolloutService; it travels in ``env_config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raygym.config import check_range
from raygym.service.spectators import Show
from raygym.vector.supervision import Supervision

KEY = "raygym"
"""Where they are in ``AlgorithmConfig.env_config``."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How rollouts are sampled for one algorithm."""

    env: Any
    """EnvId, or what makes the Slots of an actor, as ``RolloutService`` takes it."""
    num_slots: int
    """Over all runners."""
    slots_per_actor: int | None = None
    """See ``RolloutService``."""
    rollout_steps: int | None = None
    """Most steps of one Rollout; None: 64."""
    prefetch: int = 0
    """Rollouts that an actor plays ahead; 0 samples with the weights of now."""
    frame_stack: int = 1
    """Frames of one observation."""
    reward_scale: float = 1.0
    """Factor between a reward and what is learned from; metrics are of unscaled rewards."""
    seed: int = 0
    """Of the environments and of the actions drawn."""
    make_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For ``raygym.make``."""
    supervision: Supervision | None = None
    """Of the slots."""
    actor_options: Mapping[str, Any] | None = None
    """For the service's actors."""
    show: Show | None = None
    """Who looks on while they play; None for nobody."""
    patience_s: float = 600.0
    """A runner that sees no rollout for so long raises NoRollouts."""

    def __post_init__(self) -> None:
        check_range("rollout_config", "num_slots", self.num_slots, 1, 100_000)
        check_range("rollout_config", "prefetch", self.prefetch, 0, 1000)
        check_range("rollout_config", "frame_stack", self.frame_stack, 1, 64)
        check_range("rollout_config", "patience_s", self.patience_s, 0.1, 1e6)
        if self.rollout_steps is not None:
            check_range("rollout_config", "rollout_steps", self.rollout_steps, 1, 100_000)

    def share(self, worker_index: int, num_runners: int) -> int:
        """Returns the slots of one runner.

        Args:
            worker_index: From 1; 0 for the only one, in the driver.
            num_runners: How many remote runners.
        """
        if num_runners == 0:
            return self.num_slots
        even, more = divmod(self.num_slots, num_runners)
        return even + (worker_index <= more)

    def show_of(self, worker_index: int, num_runners: int) -> Show | None:
        """Returns the show of one runner, whose slots are counted on from those before.

        Args:
            worker_index: As for ``share``.
            num_runners: The same.
        """
        if self.show is None:
            return None
        before = sum(self.share(index, num_runners) for index in range(1, worker_index))
        return replace(self.show, first_slot=self.show.first_slot + before)
