"""Who looks on while slots play: metrics, the wall, films. None of them can end a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import ray

from raygym.service.reports import EpisodeRecord, SamplerReport

log = logging.getLogger(__name__)

Int64Array = npt.NDArray[np.int64]


class Spectator(Protocol):
    """Looks on in the thread that plays, so each call is to be quick and to wait for nothing."""

    def stepped(self, slots: Int64Array, observations: npt.NDArray[Any], step_s: float) -> None:
        """Sees what the agent sees next.

        Args:
            slots: int64[n]: their numbers within the run.
            observations: [n, ...]: after the step, or the first of an episode; a view, good
                during the call.
            step_s: Mean time from an action to its observation, in seconds; 0.0 for the first
                of an episode.
        """
        ...

    def ended(self, record: EpisodeRecord) -> None:
        """Hears of an episode that ended."""
        ...

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        """Hears how the slots fare, about once a rollout."""
        ...

    def close(self) -> None:
        """Lets go of what it holds; may be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Show:
    """How a run is shown; it goes to each of its actors."""

    run: str
    """Name of the run."""
    env_id: str
    runtime: str
    mode: str
    """``realtime`` or ``lockstep``."""
    backend: str = ""
    """What makes its Remotes: ``docker``, ``process``; empty for none."""
    client_id: str = ""
    """Name of the run to its Remotes; the slot's number is added."""
    first_slot: int = 0
    """What is added to the numbers of an actor's slots, where several services play for one run."""
    opens: Sequence[Callable[[Show, str], Spectator]] = ()
    """Each makes a spectator in an actor, from this and the actor's name; each must pickle."""


def label(first_slot: int, num_slots: int, env_id: str) -> str:
    """Returns which slots of which environment, for a person: ``slots 0-7, CartPole-v1``."""
    last = first_slot + num_slots - 1
    slots = f"slot {first_slot}" if num_slots == 1 else f"slots {first_slot}-{last}"
    return f"{slots}, {env_id}" if env_id else slots


def actor_repr(kind: str, first_slot: int, num_slots: int, show: Show | None) -> str:
    """Returns how an actor stands in Ray's dashboard: its slots, environment and Remotes.

    A Remote comes and goes within an actor's life, so that it stands there by the name of its
    client; the log has its id.

    Args:
        kind: Class of the actor.
        first_slot: Number of its first slot.
        num_slots: How many it has.
        show: Of the run; None where nobody looks on.
    """
    if show is None:
        return f"{kind}({label(first_slot, num_slots, '')})"
    first_slot += show.first_slot
    what = label(first_slot, num_slots, show.env_id)
    if show.backend and show.client_id:
        clients = [f"{show.client_id}-{slot}" for slot in (first_slot, first_slot + num_slots - 1)]
        remotes = f"{show.backend} remote" + ("s" if num_slots > 1 else "")
        what += f", {remotes} of {' to '.join(dict.fromkeys(clients))}"
    return f"{kind}({what})"


class Spectators:
    """All who look on in one actor, as one.

    One that raises is logged and left out from then on.

    Args:
        spectators: They.
        actor: Name of the actor.
        first_slot: Added to the numbers of slots that they hear of.
    """

    def __init__(
        self, spectators: Sequence[Spectator] = (), *, actor: str = "", first_slot: int = 0
    ) -> None:
        self._spectators = list(spectators)
        self._first_slot = first_slot
        self.actor = actor
        """Name of the actor; empty where nobody named it."""
        self.node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        """Id of this Ray node; empty outside Ray."""

    @classmethod
    def of(cls, show: Show | None, *, actor: str) -> Spectators:
        """Makes those of a show in an actor.

        Args:
            show: None for nobody.
            actor: Its name.
        """
        if show is None:
            return cls(actor=actor)
        made = cls(actor=actor, first_slot=show.first_slot)
        for make in show.opens:
            try:
                made._spectators.append(make(show, actor))
            # Whoever looks on must not end the run, whatever goes wrong there.
            except Exception:
                log.exception("spectator.failed actor=%s maker=%r", actor, make)
        return made

    def __bool__(self) -> bool:
        return bool(self._spectators)

    def stepped(self, slots: Int64Array, observations: npt.NDArray[Any], step_s: float) -> None:
        """Passes it on; see ``Spectator``."""
        numbers = slots + self._first_slot
        self._each(lambda one: one.stepped(numbers, observations, step_s))

    def ended(self, record: EpisodeRecord) -> None:
        """Passes it on; see ``Spectator``."""
        told = replace(record, slot=record.slot + self._first_slot)
        self._each(lambda one: one.ended(told))

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        """Passes it on; see ``Spectator``."""
        if self._spectators:
            told = [replace(one, slot=one.slot + self._first_slot) for one in reports]
            self._each(lambda one: one.reported(told))

    def close(self) -> None:
        """Closes all; may be called twice."""
        self._each(lambda one: one.close())
        self._spectators.clear()

    def _each(self, call: Callable[[Spectator], None]) -> None:
        for spectator in tuple(self._spectators):
            try:
                call(spectator)
            # As above.
            except Exception:
                log.exception("spectator.failed spectator=%r", spectator)
                # Another thread may have left it out, or closed all.
                with contextlib.suppress(ValueError):
                    self._spectators.remove(spectator)
