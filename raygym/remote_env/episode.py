"""The running account of one episode."""

from __future__ import annotations

import time

from raygym.core import Outcome
from raygym.wire.rewarder_client import RewardBatch

_NEVER_TOLD = "env_status.artificial.done"
"""Key of Universe's for an end that the remote never told: it just went on to the next."""


class Episode:
    """What is known of one episode.

    Args:
        episode_id: As the Remote numbers it; None without a reward channel.
    """

    def __init__(self, episode_id: str | None) -> None:
        self.id = episode_id
        self.score = 0.0
        self.steps = 0
        self.seed: int | None = None
        self.instruction = ""
        self.outcome = Outcome.OK
        self.is_terminated = False
        self.is_truncated = False
        self.done_at_s = 0.0
        self.lost = ""
        self.is_preempted = False

    @property
    def is_over(self) -> bool:
        """Whether it ended, in whatever way."""
        return self.is_terminated or self.is_truncated or bool(self.lost)

    @property
    def outcome_now(self) -> Outcome:
        """Why it ended as it did, or OK while it runs well."""
        if not self.lost:
            return self.outcome
        return Outcome.PREEMPTED if self.is_preempted else Outcome.INFRA_FAILURE

    def add(self, batch: RewardBatch) -> None:
        """Counts one step and what came of it."""
        self.steps += 1
        self.score += batch.reward
        if "seed" in batch.info:
            self.seed = batch.info["seed"]
        if "instruction" in batch.info:
            self.instruction = str(batch.info["instruction"])
        if not batch.done:
            return
        outcome = batch.info.get("outcome", Outcome.OK)
        self.outcome = Outcome(outcome) if outcome in set(Outcome) else Outcome.ENV_FAILURE
        self.is_truncated = self.outcome is not Outcome.OK or any(
            batch.info.get(key) for key in ("truncated", _NEVER_TOLD)
        )
        self.is_terminated = not self.is_truncated
        self.done_at_s = time.monotonic()
