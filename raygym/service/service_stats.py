"""The accounts of a RolloutService: steps, outcomes, Remotes, lags, what failed. Time is given."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raygym.core import Outcome, Rollout
from raygym.service.actor_answers import Answer
from raygym.service.node_quarantine import Quarantined
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.rollouts import weights_lag
from raygym.vector.slots import SlotReport

_MOST_REPORTS = 10_000
_RECENT_ROLLOUTS = 100


@dataclass(frozen=True, kw_only=True)
class ServiceStats:
    """How a RolloutService fares, over its life."""

    slots: Mapping[str, int]
    """How many slots are in each state: ``starting``, ``running``, ``retrying`` or
    ``quarantined``."""
    steps: int
    """Environment steps, those of rollouts that were dropped or lost among them."""
    steps_per_s: float
    """Since the first report of a step."""
    episodes: int
    outcomes: Mapping[str, int]
    """Episodes by how they ended; ``ok`` is always there."""
    remotes_started: int
    remotes_lost: int
    actors: int
    """That play or are being made."""
    actors_lost: int
    rollouts: int
    """That were handed out."""
    rollouts_dropped: int
    """In real time: played, and too old before anybody asked."""
    rollouts_waiting: int
    """In the actors, by their last answers."""
    weights_version: int
    """The newest."""
    weights_lag: float
    """How many versions old the choices of the last 100 rollouts were on average, when they
    were handed out; 0.0 for none."""
    quarantine: Sequence[Quarantined]
    """Nodes and slots that keep failing, with the error and the end of the log."""


@dataclass
class ActorAccount:
    """What one actor said last; kept where it is replaced."""

    slots: Sequence[SlotReport] = ()
    dropped: int = 0
    waiting: int = 0


@dataclass
class ServiceAccounts:
    """The running accounts."""

    steps: int = 0
    first_step_s: float | None = None
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    rollouts: int = 0
    actors_lost: int = 0
    reports: collections.deque[ActorReport | ActorLost] = field(
        default_factory=lambda: collections.deque(maxlen=_MOST_REPORTS)
    )
    lags: collections.deque[float] = field(
        default_factory=lambda: collections.deque(maxlen=_RECENT_ROLLOUTS)
    )
    _started: int = 0
    _lost: int = 0
    _dropped: int = 0

    def note_answer(self, account: ActorAccount, answer: Answer, now_s: float) -> None:
        """Adds what an actor says of its slots."""
        account.slots = answer.slots or account.slots
        account.dropped = answer.rollouts_dropped
        account.waiting = answer.rollouts_waiting
        for report in answer.reports:
            if report.steps and self.first_step_s is None:
                self.first_step_s = now_s
            self.steps += report.steps
            self.outcomes.update(str(episode.outcome) for episode in report.episodes)
            self.reports.append(
                ActorReport(sampler=report, has_gradient=False, statistics={}, pid=answer.pid)
            )

    def note_rollout(self, rollout: Rollout, version: int) -> None:
        """Counts a rollout that is handed out.

        Args:
            rollout: It.
            version: The newest weights.
        """
        self.rollouts += 1
        if rollout.traces is not None:
            self.lags.append(weights_lag(rollout, version))

    def note_lost(self, account: ActorAccount, slots: Iterable[int], error: str) -> None:
        """Counts an actor that ended by itself; the Remotes it held went with it."""
        self.actors_lost += 1
        for report in account.slots:
            had_remote = report.remotes_started > report.remotes_lost
            self._lost += had_remote
            if had_remote:
                self.outcomes[str(Outcome.INFRA_FAILURE)] += 1
        self.note_gone(account)
        self.reports.extend(ActorLost(slot, error) for slot in slots)

    def note_gone(self, account: ActorAccount) -> None:
        """Keeps the counts of an actor that goes."""
        self._started += sum(report.remotes_started for report in account.slots)
        self._lost += sum(report.remotes_lost for report in account.slots)
        self._dropped += account.dropped
        account.slots, account.dropped, account.waiting = (), 0, 0

    def stats(
        self,
        accounts: Mapping[int, tuple[int, ActorAccount]],
        *,
        actors: int,
        version: int,
        nodes: Sequence[Quarantined],
        now_s: float,
    ) -> ServiceStats:
        """Returns the whole.

        Args:
            accounts: By the first slot of each actor, how many slots it has and its account.
            actors: How many play.
            version: The newest weights.
            nodes: Those in quarantine.
            now_s: When.
        """
        states: collections.Counter[str] = collections.Counter()
        sick: list[Quarantined] = list(nodes)
        for first_slot, (num_slots, account) in accounts.items():
            states.update(report.state for report in account.slots)
            states["starting"] += num_slots - len(account.slots)
            sick += [
                _quarantined(first_slot, report)
                for report in account.slots
                if report.state == "quarantined"
            ]
        known = [account for _, account in accounts.values()]
        now_reports = [report for account in known for report in account.slots]
        elapsed_s = 0.0 if self.first_step_s is None else now_s - self.first_step_s
        return ServiceStats(
            slots={state: count for state, count in states.items() if count},
            steps=self.steps,
            steps_per_s=self.steps / elapsed_s if elapsed_s > 0 else 0.0,
            episodes=sum(self.outcomes.values()),
            outcomes={str(Outcome.OK): 0, **self.outcomes},
            remotes_started=self._started + sum(r.remotes_started for r in now_reports),
            remotes_lost=self._lost + sum(r.remotes_lost for r in now_reports),
            actors=actors,
            actors_lost=self.actors_lost,
            rollouts=self.rollouts,
            rollouts_dropped=self._dropped + sum(account.dropped for account in known),
            rollouts_waiting=sum(account.waiting for account in known),
            weights_version=version,
            weights_lag=sum(self.lags) / len(self.lags) if self.lags else 0.0,
            quarantine=tuple(sick),
        )


def _quarantined(first_slot: int, report: SlotReport) -> Quarantined:
    return Quarantined(
        kind="slot",
        name=str(first_slot + report.slot),
        failures=report.failures_in_a_row,
        left_s=None,
        error=report.error,
    )
