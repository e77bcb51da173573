"""Slots in threads of this process, for environments that wait for a Remote."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from raygym.core import Outcome
from raygym.errors import RemoteFailedToStart
from raygym.vector.pace import PaceWatch
from raygym.vector.slot_record import EnvFactory, SlotRecord, empty_observations
from raygym.vector.slot_thread import Answer, Asked, SlotThread
from raygym.vector.slots import Int64Array, Ready, SlotReport
from raygym.vector.supervision import Supervision

_CLOSE_S = 30.0
"""Longest wait for all environments to close."""
_LOOK_EVERY_S = 0.5
"""How often slots are looked at that have not answered."""


class ThreadSlots:
    """Environments, each made, reset, stepped and closed in its own thread.

    Threads share one interpreter, so this is for environments that mostly wait. A step that
    raises ends the episode of its slot; one that is silent beyond its deadline, or that has
    become slow, ends it with the outcome ``timeout``. Then its thread is let go, its
    environment closed behind it, and the next reset makes another.

    Args:
        factory: Makes the environment of a slot; all are made at once, now.
        num_slots: How many.
        supervision: Deadlines, and how long a slot backs off whose start or reset failed.
        close_also: Called last by ``close``.

    Raises:
        RaygymError: No environment could be made.
    """

    def __init__(
        self,
        factory: EnvFactory,
        num_slots: int,
        *,
        supervision: Supervision | None = None,
        close_also: Callable[[], None] = lambda: None,
    ) -> None:
        self.num_slots = num_slots
        self._factory = factory
        self._supervision = supervision or Supervision()
        self._close_also = close_also
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._records = [SlotRecord(i, self._supervision) for i in range(num_slots)]
        self._pace = PaceWatch(self._supervision.slow_factor)
        self._look_at_s = 0.0
        self._rows: list[Answer] = []
        self._closers: dict[int, threading.Thread] = {}
        self._threads: list[SlotThread | None] = [
            SlotThread(i, factory, self._records[i], self._answers, starts_now=True)
            for i in range(num_slots)
        ]
        try:
            self.single_observation_space, self.single_action_space = self._spaces()
        except BaseException:
            self.close()
            raise
        blank = empty_observations(self.single_observation_space, num_slots)
        self._last: list[Any] = list(blank)

    @property
    def envs(self) -> Sequence[gymnasium.Env[Any, Any] | None]:
        """The environments; None for one that is not there now."""
        return [None if thread is None else thread.env for thread in self._threads]

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins episodes, each in its own thread. See ``Slots``."""
        for row, slot in enumerate(slots):
            seed = None if seeds is None else seeds[row]
            self._ask(int(slot), Asked(is_reset=True, seed=seed, options=options))

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Has each take a step in its own thread. See ``Slots``."""
        for slot, action in zip(slots, actions, strict=True):
            self._ask(int(slot), Asked(is_reset=False, action=action))

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Returns what came, in the order in which it came. See ``Slots``."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        rows = self._rows
        while True:
            self._take_all()
            now_s = time.monotonic()
            if now_s >= self._look_at_s:
                self._look_at_s = now_s + _LOOK_EVERY_S
                self._cut_silent(now_s)
            asked = sum(thread is not None and thread.asked is not None for thread in self._threads)
            if len(rows) >= at_least or not asked:
                return self._ready()
            left_s = _LOOK_EVERY_S if until_s is None else min(_LOOK_EVERY_S, until_s - now_s)
            if left_s <= 0:
                return self._ready()
            try:
                self._take(self._answers.get(timeout=left_s))
            except queue.Empty:
                continue

    def render(self) -> tuple[Any, ...]:
        """Returns what each environment renders; None for one that is busy, or not there now."""
        threads = self._threads
        return tuple(
            None if thread is None or thread.asked or thread.env is None else thread.env.render()
            for thread in threads
        )

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        pairs = zip(self._records, self.envs, strict=True)
        return [record.report(env) for record, env in pairs]

    def close(self) -> None:
        """Closes each environment in its own thread; one that will not is let go."""
        threads = [thread for thread in self._threads if thread is not None]
        self._threads = [None] * self.num_slots
        for thread in threads:
            thread.end()
        until_s = time.monotonic() + _CLOSE_S
        for thread in threads:
            if not thread.join(until_s - time.monotonic()):
                thread.abandon()
        for record in self._records:
            record.closed()
        close_also, self._close_also = self._close_also, lambda: None
        close_also()

    def _spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """Waits for the first environment, or for the failure of all."""
        until_s = time.monotonic() + self._supervision.reset_timeout_s
        failure: BaseException | None = None
        for _ in range(self.num_slots):
            try:
                answer = self._answers.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                break
            if answer.spaces is not None:
                return answer.spaces
            failure = failure or answer.fatal
        raise failure or RemoteFailedToStart(
            f"none of {self.num_slots} environments was made within "
            f"{self._supervision.reset_timeout_s:g} s (Supervision.reset_timeout_s)"
        )

    def _ask(self, slot: int, asked: Asked) -> None:
        thread = self._threads[slot]
        if thread is None:
            after = self._closers.pop(slot, None)
            record = self._records[slot]
            thread = SlotThread(slot, self._factory, record, self._answers, after=after)
            self._threads[slot] = thread
        thread.ask(asked)

    def _take_all(self) -> None:
        while True:
            try:
                answer = self._answers.get_nowait()
            except queue.Empty:
                return
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        thread = answer.thread
        slot = thread.slot
        if self._threads[slot] is not thread or answer.is_start:
            return
        thread.asked = None
        if answer.fatal is not None:
            raise answer.fatal
        if answer.is_first:
            self._records[slot].began()
        elif answer.info.get("outcome", "ok") != "ok":
            self._note_cut(slot, answer)
        else:
            slow = self._pace.note(slot, answer.seconds)
            if slow:
                answer = self._replaced(thread, answer, slow)
        self._rows.append(answer)

    def _replaced(self, thread: SlotThread, answer: Answer, reason: str) -> Answer:
        """Cuts the episode of a slot and has its next reset make another environment."""
        self._let_go(thread)
        cut = Answer(
            thread=thread,
            observation=answer.observation,
            reward=answer.reward,
            truncated=True,
            info={**answer.info, "outcome": str(Outcome.TIMEOUT), "reason": reason},
        )
        self._note_cut(thread.slot, cut)
        return cut

    def _cut_silent(self, now_s: float) -> None:
        for thread in self._threads:
            if thread is None or thread.asked is None:
                continue
            asked = thread.asked
            name = "reset_timeout_s" if asked.is_reset else "step_timeout_s"
            limit_s = getattr(self._supervision, name)
            if thread.busy_s(now_s) <= limit_s:
                continue
            verb = "reset" if asked.is_reset else "step"
            reason = f"its {verb} took longer than {limit_s:g} s (Supervision.{name})"
            if asked.is_reset:
                self._begin_elsewhere(thread, asked, reason)
            else:
                thread.asked = None
                self._rows.append(self._replaced(thread, Answer(thread=thread), reason))

    def _begin_elsewhere(self, thread: SlotThread, asked: Asked, reason: str) -> None:
        self._let_go(thread)
        pause_s = self._records[thread.slot].failed(reason)
        again = Asked(is_reset=True, seed=asked.seed, options=asked.options, after_s=pause_s)
        self._ask(thread.slot, again)

    def _let_go(self, thread: SlotThread) -> None:
        self._threads[thread.slot] = None
        self._pace.forget(thread.slot)
        closer = thread.abandon()
        if closer is not None:
            self._closers[thread.slot] = closer

    def _note_cut(self, slot: int, answer: Answer) -> None:
        info = answer.info
        self._records[slot].cut(info["outcome"], str(info.get("reason", "")))

    def _ready(self) -> Ready:
        rows, self._rows = self._rows, []
        slots = [row.thread.slot for row in rows]
        for slot, row in zip(slots, rows, strict=True):
            if row.observation is not None:
                self._last[slot] = row.observation
        observations = empty_observations(self.single_observation_space, len(rows))
        for index, slot in enumerate(slots):
            observations[index] = self._last[slot]
        return Ready(
            slots=np.array(slots, np.int64),
            observations=observations,
            rewards=np.array([row.reward for row in rows], np.float64),
            terminated=np.array([row.terminated for row in rows], np.bool_),
            truncated=np.array([row.truncated for row in rows], np.bool_),
            is_first=np.array([row.is_first for row in rows], np.bool_),
            infos=[row.info for row in rows],
        )
