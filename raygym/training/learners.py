"""A group of learners on Ray: it starts them, brings them together, and replaces those that end.

Each learner plays and learns in an actor of its own; weights stay together because all of them
take the same steps along the mean of their gradients. This process sees reports, and now and then
the weights.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from raygym.service.placement import actor_options, named
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.spectators import label
from raygym.training.fleet import LearnerLost
from raygym.training.learner_actor import LearnerActor, Taken
from raygym.training.learner_average import kind_for
from raygym.training.learner_sources import LearnerSetup

log = logging.getLogger(__name__)

LEARNER_CPUS = 0.25
TAKE_S = 1.0
CALL_TIMEOUT_S = 30.0
SPARE_STATE_EVERY_S = 5.0
"""How old the copy of the weights may become that is used when all learners are lost at once."""
SILENT_S = 600.0
"""A learner is ended and replaced when none of its slots steps for longer."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
_CALLS_AT_ONCE = 4


@dataclass
class _Member:
    """One learner's actor, and what it was asked."""

    actor: Any
    question: ObjectRef[Any] | None = None
    """What is new with it."""
    place: ObjectRef[Any] | None = None
    """Where it runs; answered once it is up."""
    stepped_s: float = math.inf
    """When a slot of it stepped last, or it stopped waiting for its slots."""


class LearnerGroup:
    """The learners of one run; a ``Runner``.

    Args:
        setup: What they are made from.
        parameters: State of ``BatchedLearner`` in a checkpoint, or None.
        random_states: Of the slots in a checkpoint.
        pins: Whether each learner keeps to a processor of its own; None where all are on one
            machine with as many processors as learners.
    """

    def __init__(
        self,
        setup: LearnerSetup,
        *,
        parameters: Mapping[str, Any] | None = None,
        random_states: Mapping[int, Mapping[str, Any]] | None = None,
        pins: bool | None = None,
    ) -> None:
        self._setup = setup
        self._pins = pins
        self._random_states = dict(random_states or {})
        self._spare_state = dict(parameters) if parameters is not None else None
        self._spare_question: ObjectRef[Any] | None = None
        self._spare_at_s = time.monotonic()
        self._members = {rank: self._spawn(rank) for rank in range(setup.num_learners)}
        self._lost: dict[int, str] = {}
        self._has_met = False
        self._failures, self._not_before_s = 0, 0.0

    def poll(self, *, timeout_s: float) -> Iterator[ActorReport | ActorLost]:
        """Takes what the learners report; brings them together, anew if one of them ended.

        Args:
            timeout_s: Longest wait for the first report.

        Yields:
            One report a slot and update, or an ActorLost for each slot of a learner that ended.
        """
        if not self._has_met and time.monotonic() >= self._not_before_s:
            self._try_to_meet(timeout_s)
        self._keep_spare_state()
        for member in self._members.values():
            if member.question is None:
                member.question = member.actor.take.remote(timeout_s=TAKE_S)
        yield from self._answers(timeout_s)
        yield from self._replace_lost()

    def drain(self, *, timeout_s: float) -> Iterator[ActorReport]:
        """Takes in the reports that are still due, for the end of a run; asks for no more."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            if all(member.question is None for member in self._members.values()):
                return
            for answer in self._answers(left_s):
                if isinstance(answer, ActorReport):
                    yield answer

    def parameters(self, *, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """Returns the state of ``BatchedLearner``, for a checkpoint.

        Raises:
            LearnerLost: No learner answered, and no copy was made before.
        """
        states = self._states(timeout_s)
        if not states and self._spare_state is None:
            raise LearnerLost(
                "no learner answered, and no weights were fetched before; go on from the newest "
                "checkpoint with --resume"
            )
        self._spare_state = states[0] if states else self._spare_state
        return dict(self._spare_state or {})

    def states(self, *, timeout_s: float = CALL_TIMEOUT_S) -> list[dict[str, Any]]:
        """Returns the state of each learner that answers; for tests of whether they agree."""
        return self._states(timeout_s, is_first_enough=False)

    def replace(self, slot: int) -> None:
        """Ends the learner of a slot, so that the next ``poll`` finds it lost and replaces it."""
        ray.kill(self._members[slot // self._setup.slots_per_learner].actor)

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Ends all learners, their environments first; may be called twice."""
        closing: list[ObjectRef[Any]] = [
            member.actor.close.remote(timeout_s=max(0.1, timeout_s - 0.5))
            for member in self._members.values()
        ]
        if closing:
            with contextlib.suppress(RayError):
                ray.wait(closing, num_returns=len(closing), timeout=timeout_s)
        for member in self._members.values():
            ray.kill(member.actor)
        self._members.clear()

    def _spawn(self, rank: int) -> _Member:
        each = self._setup.slots_per_learner
        random_state = self._random_states.get(rank * each)
        actor = (
            ray.remote(LearnerActor)
            .options(
                num_cpus=LEARNER_CPUS,
                max_concurrency=_CALLS_AT_ONCE,
                **actor_options(each),
                **named(f"learner of {label(rank * each, each, self._setup.env_id)}"),
            )
            .remote(rank, self._setup, self._spare_state, random_state)
        )
        return _Member(actor)

    def _answers(self, timeout_s: float) -> Iterator[ActorReport]:
        asked = {m.question: rank for rank, m in self._members.items() if m.question is not None}
        if not asked:
            return
        first, rest = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        more = ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
        for ref in (*first, *more):
            rank = asked[ref]
            self._members[rank].question = None
            try:
                taken: Taken = ray.get(ref, timeout=CALL_TIMEOUT_S)
            except RayError as error:
                self._lost[rank] = _one_line(error)
                continue
            if taken.status == "lost":
                self._has_met = False
            self._watch(self._members[rank], rank, taken)
            for report in taken.reports:
                self._random_states[report.sampler.slot] = report.sampler.random_state
                if report.sampler.steps:
                    self._failures = 0
                yield report

    def _watch(self, member: _Member, rank: int, taken: Taken) -> None:
        """Ends a learner that waits for slots that do not step; its next answer is its loss."""
        now_s = time.monotonic()
        has_stepped = any(report.sampler.steps for report in taken.reports)
        if has_stepped or not taken.is_playing or member.stepped_s == math.inf:
            member.stepped_s = now_s
        elif now_s - member.stepped_s > SILENT_S:
            log.warning("learner.silent rank=%d seconds=%.0f", rank, SILENT_S)
            ray.kill(member.actor)

    def _replace_lost(self) -> Iterator[ActorLost]:
        """Spawns learners anew; they meet in the next ``poll``."""
        lost, self._lost = self._lost, {}
        if not lost:
            return
        self._has_met = False
        for rank, error in lost.items():
            log.warning("learner.lost rank=%d error=%s", rank, error)
            ray.kill(self._members[rank].actor)
            # What is newest decides, and only those that live can know.
            self._members.pop(rank)
        self._fetch_newest()
        for rank, error in lost.items():
            self._members[rank] = self._spawn(rank)
            for slot in self._slots_of(rank):
                yield ActorLost(slot, error)
        self._back_off()

    def _try_to_meet(self, timeout_s: float) -> None:
        """Has the learners meet if all of them are up."""
        for member in self._members.values():
            if member.place is None:
                member.place = member.actor.where.remote()
        places = [m.place for m in self._members.values() if m.place is not None]
        if len(ray.wait(places, num_returns=len(places), timeout=timeout_s)[0]) == len(places):
            self._meet()

    def _meet(self) -> None:
        """Brings all learners together, on the newest weights that any of them has."""
        members = [self._members[rank] for rank in range(self._setup.num_learners)]
        try:
            if self._failures or self._spare_state is not None:
                self._fetch_newest()
            places: list[tuple[str, str]] = ray.get(
                [m.place for m in members if m.place is not None], timeout=CALL_TIMEOUT_S
            )
            kind = kind_for({node for node, _ in places})
            meeting = None
            if len(members) > 1:
                meeting = ray.get(
                    members[0].actor.host.remote(kind, places[0][1]), timeout=CALL_TIMEOUT_S
                )
            state = ray.put(self._spare_state) if self._spare_state is not None else None
            cores = self._cores(len({node for node, _ in places}) == 1)
            ray.get(
                [
                    member.actor.begin.remote(meeting, state, core)
                    for member, core in zip(members, cores, strict=True)
                ],
                timeout=CALL_TIMEOUT_S,
            )
        except RayError as error:
            # Who is lost shows in its answer to ``take``.
            log.warning("learners.not_met cause=%s", _one_line(error))
            self._back_off()
            return
        self._has_met = True
        log.info("learners.met kind=%s learners=%d", kind, len(members))

    def _cores(self, is_one_node: bool) -> list[int | None]:
        count = self._setup.num_learners
        usable = sorted(os.sched_getaffinity(0))
        pins = self._pins if self._pins is not None else is_one_node and len(usable) == count
        return [usable[rank % len(usable)] if pins else None for rank in range(count)]

    def _back_off(self) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failures)
        # The first loss after good times is mended at once.
        self._not_before_s = time.monotonic() + (pause_s if self._failures else 0.0)
        self._failures += 1

    def _fetch_newest(self) -> None:
        states = self._states(CALL_TIMEOUT_S, is_first_enough=False)
        held = [self._spare_state] if self._spare_state is not None else []
        newest = max((*states, *held), key=age_of, default=None)
        self._spare_state = newest

    def _states(self, timeout_s: float, *, is_first_enough: bool = True) -> list[dict[str, Any]]:
        states: list[dict[str, Any]] = []
        for member in self._members.values():
            try:
                states.append(ray.get(member.actor.state.remote(), timeout=timeout_s))
            except RayError as error:
                log.warning("learner.no_state cause=%s", _one_line(error))
            if states and is_first_enough:
                break
        return states

    def _keep_spare_state(self) -> None:
        now_s = time.monotonic()
        if self._spare_question is not None:
            done, _ = ray.wait([self._spare_question], num_returns=1, timeout=0)
            if done:
                with contextlib.suppress(RayError):
                    self._spare_state = ray.get(self._spare_question, timeout=CALL_TIMEOUT_S)
                self._spare_question = None
        elif now_s - self._spare_at_s >= SPARE_STATE_EVERY_S and self._has_met:
            self._spare_at_s = now_s
            self._spare_question = self._members[0].actor.state.remote()

    def _slots_of(self, rank: int) -> range:
        count = self._setup.slots_per_learner
        return range(rank * count, (rank + 1) * count)


def age_of(state: Mapping[str, Any]) -> tuple[int, float]:
    """Returns what orders states: by updates, then by the steps of Adam within them."""
    return state["version"], float(state["optimiser"].get("step", 0))


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
