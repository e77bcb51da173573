"""What every set of slots can do: reset some, step some, and take those that are ready first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Remote

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What some slots answered, each to its last ``send`` or ``reset``; n of them.

    A slot whose environment failed has a row that is truncated, with its last observation,
    reward 0.0 and an ``outcome`` other than ``ok`` and a ``reason`` in its info.
    """

    slots: Int64Array
    """int64[n], which ones; no slot twice."""
    observations: npt.NDArray[Any]
    """The space's dtype[n, ...]. May be a view that holds until the next ``send`` or ``reset``."""
    rewards: npt.NDArray[np.float64]
    """float64[n]; 0.0 for a reset."""
    terminated: BoolArray
    """bool[n]: the episode reached its own end."""
    truncated: BoolArray
    """bool[n]: the episode was cut, by a time limit or a failure."""
    is_first: BoolArray
    """bool[n]: the answer to a ``reset``, so the observation is an episode's first."""
    infos: Sequence[Mapping[str, Any]]
    """n infos of the environments; read only."""


@dataclass(kw_only=True)
class SlotReport:
    """How one slot fares, over its life."""

    slot: int
    state: str = "starting"
    """``starting``, ``running``, ``retrying`` (backing off), ``quarantined`` or ``closed``."""
    starts: int = 0
    """Environments made, the first among them."""
    cuts: Mapping[str, int] = field(default_factory=dict)
    """Episodes that failed, by outcome."""
    remotes_started: int = 0
    remotes_lost: int = 0
    failures_in_a_row: int = 0
    """Starts and resets that failed since the last that did not."""
    error: str = ""
    """The last failure, with the end of the log where there is one."""
    remote_id: str = ""
    """Of the Remote that it plays on now; empty for an environment without one."""
    remote: Remote | None = None
    """That Remote, where its environment tells: a person can look in there."""


class Slots(Protocol):
    """A fixed number of environments, each at its own pace. Not for two threads at once.

    After an end (``terminated`` or ``truncated``) a slot waits for ``reset``. There is no
    autoreset here: who drives the slots decides.
    """

    num_slots: int
    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins an episode in some slots; returns at once.

        A slot that fails to begin is tried again, later and later, until it answers.

        Args:
            slots: Which; each must be idle (its last answer was taken) or new.
            seeds: One for each; None for none.
            options: For all of them.
        """
        ...

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Steps some slots; returns at once.

        Args:
            slots: Which; each must be idle and within an episode.
            actions: One row for each, in the order of ``slots``.
        """
        ...

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Returns those that are ready, in no order that is promised; they are idle then.

        Args:
            at_least: How many to wait for.
            timeout_s: Longest wait; fewer rows, or none, come back then. None waits on.

        Raises:
            ConfigError, MissingDependency: A slot's environment cannot be made at all.
        """
        ...

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        ...

    def close(self) -> None:
        """Ends everything within a bounded time; may be called twice."""
        ...
