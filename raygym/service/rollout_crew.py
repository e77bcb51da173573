"""The actors of a RolloutService: spawns them, asks them, and replaces those that end."""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygym.core import Rollout
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.service.actor_answers import Answer
from raygym.service.crew_members import CrewConfig, Member, RolloutsFailed
from raygym.service.node_quarantine import NodeQuarantine
from raygym.service.placement import named, slot_resources
from raygym.service.ray_running import ACTOR_CPUS, alive_nodes, one_line
from raygym.service.rollout_actor import RolloutActor
from raygym.service.service_stats import ServiceAccounts
from raygym.service.shared_frames import FramesAddress, FramesReader, can_map
from raygym.service.spectators import label

log = logging.getLogger(__name__)

ASK_S = 1.0
"""How long an actor waits for a Rollout before it answers without one."""
HEARTBEAT_S = 5.0
_ACTOR_THREADS = 3
_WAIT_S = 0.25
_HOPELESS_FAILURES = 3
_CLOSE_S = 10.0


class Crew:
    """Keeps a number of actors playing. Not for two threads at once.

    Args:
        config: What it is made of.
        accounts: Where what happens is noted.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        config: CrewConfig,
        accounts: ServiceAccounts,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._clock = clock
        self._policy_ref = None if config.policy is None else ray.put(config.policy)
        self._weights: ObjectRef[Any] | None = None
        self.version = 0
        self.quarantine = NodeQuarantine()
        self.members: dict[int, Member] = {}
        self._episodes: collections.defaultdict[int, int] = collections.defaultdict(int)
        """By slot, the first number that no delivered episode has."""
        self._retiring: list[tuple[Any, ObjectRef[Any], float]] = []
        self._is_over = threading.Event()
        self._handles: tuple[Any, ...] = ()
        self._heart = threading.Thread(target=self._beat, name="rollouts-heart", daemon=True)
        self._heart.start()

    def set_weights(self, weights: Any, version: int) -> None:
        """Has weights, or a policy, reach each actor with its next question."""
        self._weights = ray.put(weights)
        self.version = version

    def resize(self, shares: Mapping[int, tuple[int, int]]) -> None:
        """Makes and ends actors so that there is one for each share.

        Args:
            shares: By number of the actor, its first slot and how many it has.
        """
        for number, member in list(self.members.items()):
            if shares.get(number) != (member.first_slot, member.num_slots):
                self._retire(member)
                del self.members[number]
        for number, (first_slot, num_slots) in shares.items():
            if number not in self.members:
                self.members[number] = Member(number, first_slot, num_slots)
        self.spawn_due()

    def spawn_due(self) -> None:
        """Makes the actors that are not there, but for those that back off."""
        now_s = self._clock()
        for member in self.members.values():
            if member.handle is None and now_s >= member.retry_at_s:
                self._spawn(member, now_s)
        self._note_handles()

    def ask(self, *, plays_on: bool = True) -> None:
        """Asks each actor that owes no answer."""
        for member in self.members.values():
            if member.handle is not None and member.question is None:
                self._ask(member, plays_on=plays_on)

    def next_rollout(self, *, timeout_s: float, asks_again: bool) -> Rollout | None:
        """Takes answers until one brings a Rollout.

        Args:
            timeout_s: Longest wait.
            asks_again: Whether an actor that brought one is asked for its next at once.

        Raises:
            RaygymError: No actor can play.
        """
        deadline_s = self._clock() + timeout_s
        while True:
            self.spawn_due()
            self._end_silent()
            self._reap()
            left_s = max(0.0, deadline_s - self._clock())
            questions = {m.question: m for m in self.members.values() if m.question is not None}
            if not questions:
                self._is_over.wait(min(left_s, _WAIT_S))
            for ref in _ready(list(questions), min(left_s, _WAIT_S)):
                rollout = self._take(questions[ref], ref)
                if rollout is not None:
                    if asks_again:
                        self._ask(questions[ref])
                    return rollout
            if left_s <= 0:
                return None
            self.ask()

    def drain(self, *, timeout_s: float) -> Iterator[Rollout]:
        """Takes what was played already, and has nothing more begun."""
        deadline_s = self._clock() + timeout_s
        busy = {m.number for m in self.members.values() if m.handle is not None}
        while busy and (left_s := deadline_s - self._clock()) > 0:
            for number in busy:
                member = self.members[number]
                if member.handle is not None and member.question is None:
                    self._ask(member, plays_on=False)
            members = [self.members[number] for number in busy]
            questions = {m.question: m for m in members if m.question is not None}
            for ref in _ready(list(questions), min(left_s, _WAIT_S)):
                member = questions[ref]
                rollout = self._take(member, ref)
                if rollout is not None:
                    yield rollout
                elif not member.was_to_play_on:
                    busy.discard(member.number)
            busy = {number for number in busy if self.members[number].handle is not None}

    def close(self, *, timeout_s: float) -> None:
        """Ends all actors, their slots first; may be called twice."""
        self._is_over.set()
        if not ray.is_initialized():
            self.members.clear()
            return
        for member in self.members.values():
            self._retire(member, timeout_s=max(0.1, timeout_s - 0.5))
        self.members.clear()
        waiting = [ref for _, ref, _ in self._retiring]
        if waiting:
            with contextlib.suppress(RayError):
                ray.wait(waiting, num_returns=len(waiting), timeout=timeout_s)
        for handle, _, _ in self._retiring:
            _kill(handle)
        self._retiring.clear()
        self._note_handles()

    def _spawn(self, member: Member, now_s: float) -> None:
        config = self._config
        actor = replace(
            config.actor,
            number=member.number,
            first_slot=member.first_slot,
            num_slots=member.num_slots,
            first_episodes=tuple(self._episodes[slot] for slot in member.slots),
            service_node=ray.get_runtime_context().get_node_id(),
        )
        options: dict[str, Any] = {
            "num_cpus": ACTOR_CPUS,
            "max_concurrency": _ACTOR_THREADS,
            **slot_resources(member.num_slots),
            **named(label(actor.first_slot, actor.num_slots, actor.env_id)),
            **config.actor_options,
        }
        if not options.keys() & {"scheduling_strategy", "label_selector"}:
            options |= self._place(member, now_s)
        member.handle = (
            ray.remote(RolloutActor)
            .options(**options)
            .remote(actor, config.slots_factory, config.policy_factory, self._policy_ref)
        )
        member.version_sent, member.question, member.has_answered = -1, None, False
        member.frames, member.can_map = FramesReader(), None
        member.handle.touch.remote()
        member.asked_s = now_s

    def _place(self, member: Member, now_s: float) -> dict[str, Any]:
        """Returns the options that place an actor on the node with the least of them."""
        nodes = alive_nodes()
        load = collections.Counter(m.node for m in self.members.values() if m.handle is not None)
        if member.failures and len(nodes) > 1:
            nodes = [node for node in nodes if node != member.node] or nodes
        member.node = self.quarantine.choose(nodes, load, now_s) or ""
        if len(nodes) < 2 and not member.failures:
            # Said outright: within a placement group, as Tune's, actors would wait in there.
            return {"scheduling_strategy": "DEFAULT"}
        place = NodeAffinitySchedulingStrategy(member.node, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": place}

    def _ask(self, member: Member, *, plays_on: bool = True) -> None:
        is_news = self._weights is not None and member.version_sent != self.version
        weights, version = (self._weights, self.version) if is_news else (None, None)
        member.question = member.handle.rollout.remote(
            weights,
            version,
            timeout_s=ASK_S,
            plays_on=plays_on,
            can_map=bool(member.can_map),
            freed=member.frames.take_freed(),
        )
        member.version_sent = self.version
        member.asked_s = self._clock()
        member.was_to_play_on = plays_on

    def _take(self, member: Member, ref: ObjectRef[Any]) -> Rollout | None:
        """Takes an answer in; what an actor that cannot go on last brought is not lost."""
        member.question = None
        try:
            answer: Answer = ray.get(ref, timeout=self._config.answer_timeout_s)
        except RayError as error:
            self._lose(member, one_line(error))
            return None
        member.has_answered = True
        member.node = answer.node or member.node
        member.answer = replace(answer, rollout=None, reports=())
        self._accounts.note_answer(member.account, answer, self._clock())
        if member.can_map is None:
            member.can_map = can_map(answer.probe)
        if answer.rollout is not None:
            return self._received(member, answer.rollout, answer.frames)
        limit_s = self._config.answer_timeout_s if answer.is_made else self._config.start_timeout_s
        if answer.failure:
            member.fatal = answer.fatal
            self._lose(member, answer.failure)
        elif answer.stuck_s > limit_s:
            self._lose(member, f"stuck within its slots for {answer.stuck_s:.0f} s")
        elif why := _why_hopeless(answer, self._config.actor.supervision.quarantine_after):
            self._check_starts()
            # Another node may have what this one lacks.
            if len(alive_nodes()) > 1:
                self._lose(member, why)
        return None

    def _received(
        self, member: Member, rollout: Rollout, frames: FramesAddress | None
    ) -> Rollout | None:
        """Returns a Rollout with its observations; None where its actor took them along."""
        if frames is not None:
            try:
                seen = member.frames.read(frames)
            except OSError as error:
                self._lose(member, one_line(error))
                return None
            rollout = replace(rollout, observations=seen[:-1], last_observation=seen[-1])
        self._note_rollout(member, rollout)
        return rollout

    def _note_rollout(self, member: Member, rollout: Rollout) -> None:
        member.failures, member.fatal, member.error = 0, None, ""
        self.quarantine.note_success(member.node)
        self._accounts.note_rollout(rollout, self.version)
        if rollout.traces is not None:
            latest = rollout.traces.episodes[-1]
            for slot, episode in zip(rollout.traces.slots.tolist(), latest.tolist(), strict=True):
                self._episodes[slot] = max(self._episodes[slot], episode + 1)

    def _lose(self, member: Member, error: str) -> None:
        """Ends an actor that failed and lets it back off."""
        now_s = self._clock()
        _kill(member.handle)
        member.handle = member.question = member.answer = None
        member.failures += 1
        member.error = error
        pause_s = 0.0
        if member.failures > 1:
            pause_s = self._config.actor.supervision.retry_after_s(member.failures - 1)
        member.retry_at_s = now_s + pause_s
        self.quarantine.note_failure(member.node, error, now_s)
        self._accounts.note_lost(member.account, member.slots, error)
        self._note_handles()
        log.warning(
            "actor.lost actor=%d slots=%d-%d node=%s failures=%d pause_s=%.1f error=%s",
            *(member.number, member.slots[0], member.slots[-1], member.node or "-"),
            *(member.failures, pause_s, error),
        )
        self._check_hope()

    def _end_silent(self) -> None:
        config = self._config
        for member in self.members.values():
            limit_s = config.answer_timeout_s if member.has_answered else config.start_timeout_s
            silent_s = self._clock() - member.asked_s
            if member.question is not None and silent_s > limit_s:
                hint = "" if member.has_answered else "; has the cluster room for it?"
                self._lose(member, f"silent for {silent_s:.0f} s{hint}")

    def _check_hope(self) -> None:
        """Raises where every actor failed so that another try would not help."""
        members = list(self.members.values())
        last = max(members, key=lambda member: member.retry_at_s)
        if all(member.fatal is not None for member in members):
            nodes = len(alive_nodes())
            is_setting = isinstance(last.fatal, ConfigError)
            if last.fatal is not None and (is_setting or last.failures >= min(nodes, 3)):
                raise last.fatal
        if all(member.failures >= _HOPELESS_FAILURES for member in members):
            raise RolloutsFailed(
                f"RolloutService: all {len(members)} actors failed {_HOPELESS_FAILURES} times in "
                f"a row; the last one said:\n{last.error}"
            )

    def _check_starts(self) -> None:
        """Raises where no slot of any actor ever started, and all were tried often."""
        if self._accounts.rollouts or self._accounts.steps:
            return
        limit = self._config.actor.supervision.quarantine_after
        answers = [member.answer for member in self.members.values()]
        errors = [_why_hopeless(answer, limit) for answer in answers]
        if all(errors):
            raise RemoteFailedToStart(
                f"RolloutService: nothing could be started for any of the slots, {limit} times in "
                f"a row each; the last error was:\n{errors[-1]}"
            )

    def _retire(self, member: Member, *, timeout_s: float = _CLOSE_S) -> None:
        """Has an actor close its slots; it is killed later."""
        self._accounts.note_gone(member.account)
        if member.handle is not None:
            closing = member.handle.close.remote(timeout_s=timeout_s)
            until_s = self._clock() + timeout_s + 1.0
            self._retiring.append((member.handle, closing, until_s))
            member.handle = member.question = None

    def _reap(self) -> None:
        for row in list(self._retiring):
            handle, closing, until_s = row
            if self._clock() > until_s or _ready([closing], 0.0):
                _kill(handle)
                self._retiring.remove(row)

    def _note_handles(self) -> None:
        handles = (member.handle for member in self.members.values())
        self._handles = tuple(handle for handle in handles if handle is not None)

    def _beat(self) -> None:
        """Tells the actors that somebody is there, while a learner is busy with other things."""
        while not self._is_over.wait(HEARTBEAT_S):
            # Without the check Ray would start a cluster of its own.
            if not ray.is_initialized():
                return
            for handle in self._handles:
                with contextlib.suppress(RayError):
                    handle.touch.remote()


def _why_hopeless(answer: Answer | None, limit: int) -> str:
    """Returns the error of an actor none of whose slots can start; else an empty string."""
    if answer is None:
        return ""
    if not answer.is_made:
        return answer.error if answer.start_failures >= limit else ""
    if any(report.state != "quarantined" for report in answer.slots):
        return ""
    return answer.slots[-1].error if answer.slots else ""


def _ready(refs: list[ObjectRef[Any]], timeout_s: float) -> list[ObjectRef[Any]]:
    """Returns those that have an answer, at once where there is one."""
    if not refs:
        return []
    first, rest = ray.wait(refs, num_returns=1, timeout=timeout_s)
    more = ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
    return [*first, *more]


def _kill(handle: Any) -> None:
    with contextlib.suppress(RayError, ValueError):
        ray.kill(handle)
