"""Keeps the accounts of a run: steps, scores, times, outcomes, remotes. Pure; time is given."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import raygym
from raygym.catalog import EnvSpec
from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord

RECENT_EPISODES = 100
_RECENT_TIMES = 500


@dataclass
class SlotAccount:
    """What is known of one slot."""

    state: str = "starting"
    steps: int = 0
    episodes: int = 0
    last_score: float | None = None
    remotes_started: int = 0
    """By actors of this slot that ended before."""
    remotes_lost: int = 0
    """By actors of this slot that ended before."""
    current_started: int = 0
    current_lost: int = 0
    rollouts_dropped: int = 0
    actors_lost: int = 0
    start_failures: int = 0
    error: str = ""
    is_fatal: bool = False
    random_state: dict[str, Any] = field(default_factory=dict)
    reaction_ms: collections.deque[float] = field(
        default_factory=lambda: collections.deque(maxlen=_RECENT_TIMES)
    )

    @property
    def is_healthy(self) -> bool:
        """Whether its environment is being played."""
        return self.state == "running"


class Accounts:
    """The accounts of a run.

    Args:
        spec: The environment.
        slots: Number of slots.
        seed: The run's seed.
        mode: ``realtime`` or ``lockstep``, for the summary.
        target_score: Mean score of 100 episodes that is enough; None is never enough.
        env_steps: Steps before this run.
        episodes: Episodes before this run.
    """

    def __init__(
        self,
        spec: EnvSpec,
        slots: int,
        *,
        seed: int,
        mode: str = "realtime",
        target_score: float | None = None,
        env_steps: int = 0,
        episodes: int = 0,
    ) -> None:
        self.spec = spec
        self.slots = [SlotAccount() for _ in range(slots)]
        self.env_steps = env_steps
        self.episodes = episodes
        self.run_steps = 0
        self.first_step_s: float | None = None
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.scores: list[float] = []
        self.reaction_ms: list[float] = []
        self._seed = seed
        self._mode = mode
        self._target_score = target_score
        self._target_reached: dict[str, float] | None = None

    def note(self, report: ActorReport, now_s: float) -> list[EpisodeRecord]:
        """Adds an actor's report; returns the episodes that ended with it."""
        sampler = report.sampler
        slot = self.slots[sampler.slot]
        slot.state, slot.error, slot.is_fatal = sampler.state, sampler.error, sampler.is_fatal
        slot.start_failures = sampler.start_failures
        slot.current_started, slot.current_lost = sampler.remotes_started, sampler.remotes_lost
        slot.rollouts_dropped = sampler.rollouts_dropped
        slot.random_state = dict(sampler.random_state)
        slot.steps += sampler.steps
        self.env_steps += sampler.steps
        self.run_steps += sampler.steps
        if sampler.steps and self.first_step_s is None:
            self.first_step_s = now_s
        reaction_ms = sampler.times_ms.get("reaction_time_ms", [])
        slot.reaction_ms.extend(reaction_ms)
        self.reaction_ms.extend(reaction_ms)
        for episode in sampler.episodes:
            self._note_episode(slot, episode)
        self._check_target(now_s)
        return sampler.episodes

    def note_actor_lost(self, number: int, error: str) -> None:
        """Notes that an actor ended by itself; its remote and its episode went with it."""
        slot = self.slots[number]
        had_remote = slot.current_started > slot.current_lost
        slot.remotes_started += slot.current_started
        slot.remotes_lost += slot.current_lost + had_remote
        slot.current_started = slot.current_lost = 0
        slot.actors_lost += 1
        slot.state, slot.error = "starting", error
        if had_remote:
            self._count_outcome(slot, Outcome.INFRA_FAILURE)

    def minutes(self, now_s: float) -> float:
        """Returns the minutes since the first step; 0 before it."""
        return 0.0 if self.first_step_s is None else (now_s - self.first_step_s) / 60

    def steps_per_s(self, now_s: float) -> float:
        """Returns the steps a second since the first step, over all slots."""
        elapsed_s = 60 * self.minutes(now_s)
        return self.run_steps / elapsed_s if elapsed_s > 0 else 0.0

    def recent_score(self) -> float | None:
        """Returns the mean score of the last 100 episodes without a failure."""
        return _mean(self.scores[-RECENT_EPISODES:])

    @property
    def remotes_started(self) -> int:
        """Number of remotes started in this run, over all slots."""
        return sum(slot.remotes_started + slot.current_started for slot in self.slots)

    @property
    def remotes_lost(self) -> int:
        """Number of remotes lost in this run, over all slots."""
        return sum(slot.remotes_lost + slot.current_lost for slot in self.slots)

    @property
    def actors_lost(self) -> int:
        """Number of actors that ended by themselves, counted for each of their slots."""
        return sum(slot.actors_lost for slot in self.slots)

    @property
    def rollouts_dropped(self) -> int:
        """Number of rollouts that nobody learned from, because newer ones came."""
        return sum(slot.rollouts_dropped for slot in self.slots)

    @property
    def has_reached_target(self) -> bool:
        """Whether the last 100 episodes ever had the wanted mean score; not before 100."""
        return self._target_reached is not None

    def summary(self, now_s: float) -> dict[str, Any]:
        """Returns what came of the run, for JSON."""
        mean, recent = _mean(self.scores), self.recent_score()
        return {
            "env": self.spec.id,
            "mode": self._mode,
            "env_steps": self.env_steps,
            "env_steps_this_run": self.run_steps,
            "episodes": self.episodes,
            "mean_score": mean,
            "best_score": max(self.scores, default=None),
            "floor": self.spec.score_floor,
            "ceiling": self.spec.score_ceiling,
            "share_of_ceiling": self.share(mean),
            "last_100_episodes": {"mean_score": recent, "share_of_ceiling": self.share(recent)},
            "target": self._target(),
            "steps_per_s": round(self.steps_per_s(now_s), 3),
            "reaction_time_ms": percentiles(self.reaction_ms),
            "outcomes": {str(Outcome.OK): 0, **self.outcomes},
            "remotes": {"started": self.remotes_started, "lost": self.remotes_lost},
            "actors_lost": self.actors_lost,
            "rollouts_dropped": self.rollouts_dropped,
            "workers": len(self.slots),
            "minutes": round(self.minutes(now_s), 3),
            "seed": self._seed,
            "version": raygym.__version__,
        }

    def share(self, score: float | None) -> float | None:
        """Returns where a score lies from floor to ceiling; None if either is unknown."""
        return None if score is None else self.spec.share_of_ceiling(score)

    def _target(self) -> dict[str, Any] | None:
        if self._target_score is None:
            return None
        return {"score": self._target_score, "reached": self._target_reached}

    def _check_target(self, now_s: float) -> None:
        recent = self.recent_score()
        if self._target_score is None or self.has_reached_target or recent is None:
            return
        if len(self.scores) >= RECENT_EPISODES and recent >= self._target_score:
            self._target_reached = {
                "env_steps": self.env_steps,
                "minutes": round(self.minutes(now_s), 3),
            }

    def _note_episode(self, slot: SlotAccount, episode: EpisodeRecord) -> None:
        self._count_outcome(slot, episode.outcome)
        if episode.outcome is Outcome.OK:
            slot.last_score = episode.score
            self.scores.append(episode.score)

    def _count_outcome(self, slot: SlotAccount, outcome: Outcome) -> None:
        slot.episodes += 1
        self.episodes += 1
        self.outcomes[str(outcome)] += 1


def percentiles(
    numbers: Sequence[float], which: Sequence[int] = (50, 95)
) -> dict[str, float | None]:
    """Returns percentiles by names such as ``p50`` and ``p95``; each None for no numbers."""
    if not numbers:
        return {f"p{one}": None for one in which}
    found = np.percentile(np.asarray(numbers), which)
    return {f"p{one}": round(float(value), 2) for one, value in zip(which, found, strict=True)}


def _mean(numbers: Sequence[float]) -> float | None:
    return float(np.mean(numbers)) if numbers else None
