"""What those who play say of it, and what a run asks of whoever plays for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from raygym.service.sampler import SamplerReport


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
