"""What those who play say of it, and what a run asks of whoever plays for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from raygym.core import Outcome, Remote

TIMES_MS = (
    "reaction_time_ms",
    "observation_lag_ms",
    "action_lag_ms",
    "reward_lag_ms",
    "clock_skew_ms",
)
"""The entries of a step's info that are collected; None is left out."""
WEIGHTS_LAG = "weights_lag"
"""Among the statistics of an update: how many updates older the weights were that chose, on
average."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A Remote that a slot got."""

    seconds: float
    """From asking for it to its first answer."""
    causes: tuple[str, ...] = ()
    """What became of those that it replaces: ``infra_failure``, ``preempted``, ``worn`` or
    ``start_failed``; empty for a first one."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Claim | None:
        """Returns what the first info of an episode says of one; None where it says nothing."""
        if "claim_s" not in info:
            return None
        causes = str(info.get("claim_causes") or "")
        return cls(seconds=float(info["claim_s"]), causes=tuple(filter(None, causes.split(","))))


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One episode that ended."""

    slot: int
    score: float
    """Sum of the rewards."""
    steps: int
    duration_s: float
    outcome: Outcome
    reason: str
    """What failed; empty for ``ok``."""
    episode: int = 0
    """Counts the episodes of the slot, from 0."""
    rollout: str = ""
    """The rollout in which it ended: the actor's name, a hyphen, which of its rollouts."""
    remote_id: str = ""
    """The Remote that it ended on; empty without a Remote."""
    lease_id: str = ""
    """The lease that held it; empty where nothing is leased."""
    node: str = ""
    """Id of the Ray node; empty outside Ray."""


@dataclass(kw_only=True)
class SamplerReport:
    """What happened since the report before; small, and free of pictures."""

    slot: int
    state: str = "starting"
    """``starting``, ``running``, ``retrying``, ``quarantined`` (tried seldom), ``failed`` (for
    good), ``stopped`` or ``closed``."""
    steps: int = 0
    episodes: list[EpisodeRecord] = field(default_factory=list)
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    """By name of TIMES_MS."""
    counts: dict[str, float] = field(default_factory=dict)
    """Sums of the numbers in each step's ``info["stats"]``."""
    claims: list[Claim] = field(default_factory=list)
    """Remotes that it got."""
    fabricated_zeros: int = 0
    """Failed steps that a Rollout does not mask; there must be none."""
    remotes_started: int = 0
    """Over the sampler's life."""
    remotes_lost: int = 0
    """Over the sampler's life."""
    rollouts_dropped: int = 0
    """Over the sampler's life."""
    start_failures: int = 0
    """In a row, until now."""
    error: str = ""
    """The last error of a start, or what ended the sampler."""
    is_fatal: bool = False
    """Whether another start cannot help: a setting is wrong or a program is absent."""
    remote_id: str = ""
    """The Remote that it plays on now; empty for none."""
    lease_id: str = ""
    """The lease that holds it; empty where nothing is leased."""
    remote: Remote | None = None
    """What it plays on now, if it plays on one; a person can look in there."""
    random_state: Mapping[str, Any] = field(default_factory=dict)
    """State of the slot's random numbers after its last rollout."""


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What an actor says of one slot with each answer; small, and free of pictures."""

    sampler: SamplerReport
    has_gradient: bool
    """Whether the weights moved by it."""
    statistics: Mapping[str, float]
    """Of the gradient, or of the update; empty without one."""
    pid: int
    """Process of the actor."""


@dataclass(frozen=True)
class ActorLost:
    """An actor ended by itself and was replaced; told once for each of its slots."""

    slot: int
    error: str


class Runner(Protocol):
    """The actors of one run, whatever learns there."""

    def poll(self, *, timeout_s: float) -> Iterator[ActorReport | ActorLost]:
        """Plays and learns on, and yields what came of it.

        Args:
            timeout_s: Longest wait for the first report; one that learns in long iterations
                may take as long as one of them.
        """
        ...

    def drain(self, *, timeout_s: float) -> Iterator[ActorReport]:
        """Takes in the reports that are still due, for the end of a run."""
        ...

    def replace(self, slot: int) -> None:
        """Has the actor of a slot that failed for good replaced."""
        ...

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Ends all actors, their environments first; may be called twice."""
        ...
