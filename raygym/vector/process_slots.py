"""Slots in processes of their own, over one block of shared memory."""

from __future__ import annotations

import math
import os
import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from raygym.core import Outcome
from raygym.errors import ConfigError
from raygym.vector.crew import Crew, Place
from raygym.vector.pace import PaceWatch
from raygym.vector.process_worker import Failed, Word
from raygym.vector.remote_counts import RemoteCounts
from raygym.vector.slot_record import EnvFactory, SlotRecord, is_array_space
from raygym.vector.slots import Int64Array, Ready, SlotReport
from raygym.vector.supervision import Supervision
from raygym.vector.worker_process import pickled_factory

_IDLE, _STEPPING, _RESETTING, _PAUSING, _READY = range(5)
_LONGEST_CHECK_S = 0.25
"""How often deadlines are looked at, at least, while somebody waits."""
_CLOSE_S = 3.0
_NOTHING: Mapping[str, Any] = {}

_Asked: TypeAlias = tuple[int | None, Mapping[str, Any] | None]
"""Seed and options of a reset."""


class ProcessSlots:
    """Environments in spawned processes; observations come through memory that is shared.

    Each process makes its environments itself and steps them in turn. An environment that
    raises is closed, and made anew by the next reset. A process that ends, or is silent for
    longer than the supervision allows, is ended and started anew: the slot that it was busy
    with is cut (``env_failure`` or ``timeout``), and so are those that were in an episode in
    the same process (``env_failure``; the reason says so). The other processes go on.

    A slot that got slow is cut with the step that showed it, and its environment made anew.

    Observations of an array space (Box, Discrete, MultiDiscrete, MultiBinary) lie in the block;
    others are pickled, and come as objects. The same holds of actions.

    Args:
        factory: Makes the environment of a slot, in a child; it must pickle (lambdas do).
        num_slots: How many.
        num_processes: How many processes share them; None for as many as this process may use
            cores. Take one for each slot where environments are of uneven pace, or wait for
            something.
        supervision: Deadlines, and the pauses after failures.

    Raises:
        ConfigError: A number makes no sense, the factory does not pickle, or it raised this.
        MissingDependency: The factory raised it.
        RemoteFailedToStart: The first environment was not made within ``reset_timeout_s`` and
            ``quarantine_after`` tries.
    """

    def __init__(
        self,
        factory: EnvFactory,
        num_slots: int,
        *,
        num_processes: int | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        count = num_processes or min(num_slots, len(os.sched_getaffinity(0)))
        if not 1 <= count <= num_slots:
            raise ConfigError(
                "ProcessSlots: expected 1 or more slots, and 1 or more processes but not more "
                f"than slots; got num_slots={num_slots}, num_processes={num_processes}"
            )
        self.num_slots = num_slots
        self._supervision = supervision or Supervision()
        self._check_s = min(_LONGEST_CHECK_S, self._supervision.step_timeout_s / 4)
        self._crew = Crew(pickled_factory(factory), num_slots, count, self._supervision)
        self._block = self._crew.block
        self.single_observation_space, self.single_action_space = self._crew.spaces
        self._has_array_observations = is_array_space(self.single_observation_space)
        self._has_array_actions = is_array_space(self.single_action_space)
        self._state = np.full(num_slots, _IDLE, np.int8)
        self._is_over = np.ones(num_slots, np.bool_)
        self._is_first = np.zeros(num_slots, np.bool_)
        self._sides = np.zeros(num_slots, np.uint8)
        self._objects = np.full(num_slots, None, object)
        self._ready: list[int] = []
        self._infos: dict[int, Mapping[str, Any]] = {}
        self._asked: dict[int, _Asked] = {}
        self._due_s: dict[int, float] = {}
        self._cuts: dict[int, tuple[Outcome, str]] = {}
        self._anew: set[int] = set()
        self._fatal: Exception | None = None
        self._is_closed = False
        self._next_check_s = 0.0
        self._pace = PaceWatch(self._supervision.slow_factor)
        self._records = [SlotRecord(slot, self._supervision) for slot in range(num_slots)]
        self._remotes = RemoteCounts(num_slots)
        self._records[0].made()

    @property
    def pids(self) -> Sequence[int | None]:
        """The process of each slot; None while it has none."""
        return self._crew.pids()

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins episodes; one that fails is tried again by ``recv``. See ``Slots``."""
        numbers = np.asarray(slots, np.int64)
        self._must_be_idle(numbers, "reset")
        for row, slot in enumerate(numbers.tolist()):
            self._cuts.pop(slot, None)
            self._asked[slot] = (None if seeds is None else seeds[row], options)
            self._begin(slot)

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Takes steps. See ``Slots``."""
        numbers = np.asarray(slots, np.int64)
        self._must_be_idle(numbers, "send")
        if self._is_over[numbers].any():
            over = numbers[self._is_over[numbers]].tolist()
            raise ConfigError(f"send: the episodes of slots {over} are over: reset them first")
        if len(actions) != len(numbers):
            raise ConfigError(f"send: expected {len(numbers)} actions, got {len(actions)}")
        if self._cuts:
            numbers, actions = self._without_cut(numbers, actions)
        self._block.sides[numbers] = 1 - self._sides[numbers]
        if self._has_array_actions:
            self._block.actions[numbers] = actions
            self._crew.step(numbers)
        else:
            self._crew.step_pickled(numbers, list(actions))
        self._is_first[numbers] = False
        self._state[numbers] = _STEPPING

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Waits for answers. See ``Slots``."""
        self._must_be_open("recv")
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        is_over = False
        while True:
            now_s = time.monotonic()
            if now_s >= self._next_check_s:
                while self._hear(0.0):
                    pass
                self._check(now_s)
            if self._fatal is not None:
                error, self._fatal = self._fatal, None
                raise error
            if len(self._ready) >= at_least or is_over or not self._is_awaited():
                return self._take()
            self._hear(min(deadline_s, self._next_check_s) - now_s)
            is_over = now_s >= deadline_s

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        return [self._remotes.added_to(record.report(None)) for record in self._records]

    def close(self) -> None:
        """Ends the processes, within a few seconds whatever they do. May be called twice."""
        self._is_closed = True
        self._crew.close(_CLOSE_S)
        for record in self._records:
            record.closed()

    def _is_awaited(self) -> bool:
        """Returns whether any slot still owes an answer."""
        return bool(((self._state != _IDLE) & (self._state != _READY)).any())

    def _must_be_open(self, what: str) -> None:
        if self._is_closed:
            raise ConfigError(f"{what}: these slots are closed: make others")

    def _must_be_idle(self, slots: Int64Array, what: str) -> None:
        self._must_be_open(what)
        if (self._state[slots] != _IDLE).any():
            busy = slots[self._state[slots] != _IDLE].tolist()
            raise ConfigError(f"{what}: slots {busy} have not answered yet: recv first")

    def _without_cut(self, slots: Int64Array, actions: Any) -> tuple[Int64Array, Any]:
        """Answers for the slots whose process went while they were idle; returns the others."""
        kept = [row for row, slot in enumerate(slots.tolist()) if slot not in self._cuts]
        for slot in slots.tolist():
            if slot in self._cuts:
                self._cut(slot, *self._cuts.pop(slot))
        if self._has_array_actions:
            return slots[kept], np.asarray(actions)[kept]
        rows = list(actions)
        return slots[kept], [rows[row] for row in kept]

    def _begin(self, slot: int) -> None:
        """Tells a slot's process to reset it, or has it done later if there is none."""
        place = self._crew.places[self._crew.place_of[slot]]
        if place.worker is None:
            self._state[slot] = _PAUSING
            self._due_s[slot] = place.start_at_s
            self._next_check_s = min(self._next_check_s, place.start_at_s)
            return
        seed, options = self._asked[slot]
        given = None if options is None else dict(options)
        message = pickle.dumps((slot, seed, given, slot in self._anew))
        self._due_s.pop(slot, None)
        self._state[slot] = _RESETTING
        self._block.sides[slot] = 1 - self._sides[slot]
        self._anew.discard(slot)
        self._crew.tell(place, Word.RESET, message)

    def _hear(self, wait_s: float) -> bool:
        """Takes in a message of each process that has one; returns whether there was any."""
        has_heard = False
        for place, word, body in self._crew.hear(wait_s):
            has_heard = True
            if word is Word.ANSWER:
                self._on_answer(body)
            elif word is Word.FAILED:
                self._on_failed(pickle.loads(body))  # noqa: S301  from our child
            elif word is Word.MAKE:
                self._on_made(*pickle.loads(body))  # noqa: S301
            elif word is Word.REMOTES:
                self._remotes.note(*pickle.loads(body))  # noqa: S301
            elif word is None:
                self._lose(place, Outcome.ENV_FAILURE, "")
        return has_heard

    def _on_answer(self, body: bytes) -> None:
        count = int.from_bytes(body[:4], "little")
        slots = np.frombuffer(body, np.int32, count, 4)
        first = self._state[slots] == _RESETTING
        self._is_first[slots] = first
        self._sides[slots] = self._block.sides[slots]
        self._state[slots] = _READY
        self._is_over[slots] = self._block.terminated[slots] | self._block.truncated[slots]
        self._ready.extend(slots.tolist())
        if len(body) > 4 + 4 * count:
            for slot, (info, observation) in pickle.loads(body[4 + 4 * count :]).items():  # noqa: S301
                if info:
                    self._infos[slot] = info
                    if self._block.truncated[slot] and info.get("outcome", "ok") != "ok":
                        self._records[slot].cut(info["outcome"], str(info.get("reason", "")))
                if not self._has_array_observations:
                    self._objects[slot] = observation
        if first.any():
            for slot in slots[first].tolist():
                self._records[slot].began()
        if self._supervision.slow_factor is not None:
            for slot in slots[~first].tolist():
                self._judge(slot)

    def _judge(self, slot: int) -> None:
        why = self._pace.note(slot, float(self._block.step_s[slot]))
        if why and not self._block.terminated[slot] and not self._block.truncated[slot]:
            self._block.truncated[slot] = self._is_over[slot] = True
            self._note_cut(slot, Outcome.TIMEOUT, why)
            self._pace.forget(slot)
            self._anew.add(slot)

    def _on_made(self, slot: int, *spaces: Any) -> None:
        self._records[slot].made()
        self._remotes.gone(slot, is_killed=False)
        if spaces != self._crew.spaces:
            self._fatal = ConfigError(
                f"ProcessSlots: all environments must have the same spaces; that of slot {slot} "
                f"has {spaces[0]} and {spaces[1]}, the first has {self._crew.spaces[0]} and "
                f"{self._crew.spaces[1]}"
            )

    def _on_failed(self, failed: Failed) -> None:
        slot = failed.slot
        if failed.fatal is not None:
            self._fatal = failed.fatal
            self._state[slot] = _IDLE
            self._is_over[slot] = True
        elif self._state[slot] == _STEPPING:
            self._cut(slot, failed.outcome, failed.reason)
        else:
            self._retry(slot, failed.reason)
        self._pace.forget(slot)

    def _retry(self, slot: int, reason: str) -> None:
        """Has a reset that failed tried again, later."""
        due_s = time.monotonic() + self._records[slot].failed(reason)
        self._state[slot] = _PAUSING
        self._due_s[slot] = due_s
        self._next_check_s = min(self._next_check_s, due_s)

    def _cut(self, slot: int, outcome: Outcome, reason: str) -> None:
        """Answers for a slot that cannot: its episode is cut."""
        self._block.rewards[slot] = 0.0
        self._block.terminated[slot] = False
        self._block.truncated[slot] = True
        self._is_first[slot] = False
        self._is_over[slot] = True
        self._infos.pop(slot, None)
        self._state[slot] = _READY
        self._ready.append(slot)
        self._note_cut(slot, outcome, reason)

    def _note_cut(self, slot: int, outcome: Outcome, reason: str) -> None:
        info = {"outcome": str(outcome), "reason": reason}
        self._infos[slot] = {**self._infos.get(slot, _NOTHING), **info}
        self._records[slot].cut(str(outcome), reason)

    def _check(self, now_s: float) -> None:
        """Ends processes that are overdue, starts those whose pause is over, and resets."""
        self._next_check_s = now_s + self._check_s
        for place in self._crew.places:
            self._check_deadline(place, now_s)
        self._crew.tend(now_s)
        for slot, due_s in list(self._due_s.items()):
            if due_s <= now_s:
                self._begin(slot)
            else:
                self._next_check_s = min(self._next_check_s, due_s)

    def _check_deadline(self, place: Place, now_s: float) -> None:
        worker, states = place.worker, self._state[place.slots]
        if worker is None:
            return
        if worker.is_deaf:
            self._lose(place, Outcome.TIMEOUT, "it does not listen")
            return
        is_stepping = bool((states == _STEPPING).any())
        if not is_stepping and not (states == _RESETTING).any():
            return
        busy = int(self._block.current[place.number])
        began_s = float(self._block.began_s[place.number])
        if busy >= 0:
            is_stepping = bool(self._state[busy] == _STEPPING)
        else:
            began_s = max(began_s, worker.last_sent_s)
        is_stepping &= worker.is_up
        limit_s = (
            self._supervision.step_timeout_s if is_stepping else self._supervision.reset_timeout_s
        )
        if now_s - began_s > limit_s:
            what = "step" if is_stepping else "reset"
            self._lose(place, Outcome.TIMEOUT, f"it gave no answer to a {what} for {limit_s:g} s")

    def _lose(self, place: Place, outcome: Outcome, why: str) -> None:
        """Ends a process, and answers for its slots."""
        worker = place.worker
        if worker is None:
            return
        busy = int(self._block.current[place.number])
        how, said = self._crew.lose(place, is_hung=bool(why))
        self._crew.tend(time.monotonic())
        whose = f"the process of slots {place.slots[0]} to {place.slots[-1]} (pid {worker.pid})"
        reason = f"{whose}: {why or how or 'it closed its channel'}"
        reason += f", while busy with slot {busy}" if busy >= 0 else ""
        reason += f"\n{said}" if said else ""
        for slot in place.slots.tolist():
            is_guilty = busy in (slot, -1)
            state = self._state[slot]
            self._pace.forget(slot)
            self._remotes.gone(slot, is_killed=True)
            if state == _STEPPING:
                self._cut(slot, outcome if is_guilty else Outcome.ENV_FAILURE, reason)
            elif state == _RESETTING and is_guilty:
                self._retry(slot, reason)
            elif state == _RESETTING:
                self._begin(slot)
            elif state in (_IDLE, _READY) and not self._is_over[slot]:
                self._cuts[slot] = (Outcome.ENV_FAILURE, reason)

    def _take(self) -> Ready:
        block, count = self._block, len(self._ready)
        slots = np.array(self._ready, np.int64)
        if count == self.num_slots:
            slots.sort()
        self._ready.clear()
        if not self._has_array_observations:
            observations: Any = self._objects[slots]
        elif count == self.num_slots and (self._sides == self._sides[0]).all():
            observations = block.observations[self._sides[0]]
        else:
            observations = block.observations[self._sides[slots], slots]
        infos: list[Mapping[str, Any]] = [_NOTHING] * count
        if self._infos:
            infos = [self._infos.pop(slot, _NOTHING) for slot in slots.tolist()]
        terminated, truncated = block.terminated[slots], block.truncated[slots]
        self._state[slots] = _IDLE
        return Ready(
            slots=slots,
            observations=observations,
            rewards=block.rewards[slots],
            terminated=terminated,
            truncated=truncated,
            is_first=self._is_first[slots],
            infos=infos,
        )
