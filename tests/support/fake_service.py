"""A RolloutService in this thread, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raygym.core import Rollout
from raygym.service.reports import ActorReport
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.slots import Slots


class InlineService:
    """Samples when asked; takes the arguments of ``RolloutService`` and uses some of them.

    Args:
        env: What makes the slots.
        num_slots: How many.
        policy: What makes the policy.
        rollout_steps: T.
        reward_scale: Of the rewards.
        seed: Of the resets.
        **others: Kept, for tests to look at.
    """

    def __init__(
        self,
        env: Callable[[int, int], Slots],
        num_slots: int,
        *,
        policy: Callable[[int], Any],
        rollout_steps: int,
        reward_scale: float = 1.0,
        seed: int = 0,
        **others: Any,
    ) -> None:
        self.others = others
        self.weights: list[Any] = []
        self.is_closed = False
        self.policy = policy(0)
        self.sampler = SlotSampler(
            env(0, num_slots),
            self.policy,
            rollout_steps=rollout_steps,
            reward_scale=reward_scale,
            seed=seed,
        )

    def next_rollout(self, *, timeout_s: float | None = None) -> Rollout | None:
        return self.sampler.collect(timeout_s=timeout_s)

    def set_policy(self, weights: Any) -> int:
        self.weights.append(weights)
        self.policy.set_weights(weights, len(self.weights))
        return len(self.weights)

    def reports(self) -> list[ActorReport]:
        return [
            ActorReport(sampler=report, has_gradient=False, statistics={}, pid=0)
            for report in self.sampler.reports()
        ]

    def close(self) -> None:
        self.is_closed = True
        self.sampler.close()
