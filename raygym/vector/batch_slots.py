"""Slots of one Remote: a step of all that were sent is one message."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Remote
from raygym.errors import RaygymError
from raygym.vector.row_store import joined
from raygym.vector.slot_record import HOPELESS, SlotRecord, explained, is_array_space
from raygym.vector.slots import BoolArray, Int64Array, Ready, SlotReport
from raygym.vector.supervision import Supervision

log = logging.getLogger(__name__)

Rows: TypeAlias = tuple[
    Any, npt.NDArray[np.float64], BoolArray, BoolArray, Sequence[Mapping[str, Any]]
]
"""Observations, rewards, terminated, truncated and infos of some environments."""
_Due: TypeAlias = tuple[float, int | None, Mapping[str, Any] | None]


class Batch(Protocol):
    """Environments that are reset and stepped together, any of them at a time."""

    num_envs: int
    single_observation_space: gymnasium.Space[Any]
    single_action_space: gymnasium.Space[Any]

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        ...

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        ...

    @property
    def remote_id(self) -> str | None:
        """Id of the Remote of now, if there is one."""
        ...

    @property
    def remote(self) -> Remote | None:
        """The Remote of now, if there is one and it is known."""
        ...

    def reset(
        self,
        envs: Sequence[int],
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
    ) -> tuple[Rows, Mapping[int, Exception]]:
        """Begins episodes; returns a row for each, and those that failed to begin.

        Raises:
            RaygymError: None began.
        """
        ...

    def step(self, envs: Sequence[int], actions: Sequence[Any]) -> Rows:
        """Takes steps; what breaks is a row that says so.

        Raises:
            ConfigError: An action is not in the space; nothing was done.
        """
        ...

    def close(self) -> None:
        """Ends all. May be called twice."""
        ...


class BatchSlots:
    """Environments of one Remote, stepped by one message for all that were sent.

    ``recv`` asks and waits; the environments keep their own deadlines. A Remote that is lost
    ends the episodes of all.

    Args:
        batch: The environments; closed with this.
        supervision: How long a slot whose reset failed backs off.
        close_also: Called last by ``close``.
        sleep: Waits for slots that back off, in seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        supervision: Supervision | None = None,
        close_also: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_slots = batch.num_envs
        self.single_observation_space = batch.single_observation_space
        self.single_action_space = batch.single_action_space
        self.batch = batch
        """What is behind it."""
        self._close_also = close_also
        self._sleep = sleep
        self._clock = clock
        given = supervision or Supervision()
        self._records = [SlotRecord(i, given) for i in range(self.num_slots)]
        self._resets: dict[int, _Due] = {}
        self._actions: dict[int, Any] = {}

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Notes which to reset with the next ``recv``. See ``Slots``."""
        for row, slot in enumerate(slots):
            self._resets[int(slot)] = (0.0, None if seeds is None else seeds[row], options)

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Notes which to step with the next ``recv``. See ``Slots``."""
        for slot, action in zip(slots, actions, strict=True):
            self._actions[int(slot)] = action

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Resets and steps what was asked for. See ``Slots``."""
        until_s = None if timeout_s is None else self._clock() + timeout_s
        parts: list[Ready] = []
        if self._actions:
            parts.append(self._step())
        while True:
            parts += self._begin_due()
            missing = at_least - sum(len(part.slots) for part in parts)
            if missing <= 0 or not self._resets:
                return joined(parts) if parts else self._nothing()
            now_s = self._clock()
            due_s = min(at_s for at_s, _, _ in self._resets.values())
            if until_s is not None and due_s > until_s:
                self._sleep(max(0.0, until_s - now_s))
                return joined(parts) if parts else self._nothing()
            self._sleep(max(0.0, due_s - now_s))

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares; slot 0 counts the Remotes of all."""
        reports = [record.report(None) for record in self._records]
        reports[0].remotes_started = self.batch.remotes_started
        reports[0].remotes_lost = self.batch.remotes_lost
        for report in reports:
            report.remote_id = self.batch.remote_id or ""
            report.remote = self.batch.remote
        return reports

    def close(self) -> None:
        """Ends the environments. May be called twice."""
        self._resets.clear()
        self._actions.clear()
        try:
            self.batch.close()
        except RaygymError as error:
            log.warning("slots.close_failed: %s", explained(error))
        for record in self._records:
            record.closed()
        close_also, self._close_also = self._close_also, lambda: None
        close_also()

    def _step(self) -> Ready:
        actions, self._actions = self._actions, {}
        slots = list(actions)
        rows = self.batch.step(slots, list(actions.values()))
        infos = rows[4]
        for slot, info in zip(slots, infos, strict=True):
            outcome = info.get("outcome", "ok")
            if outcome != "ok":
                self._records[slot].cut(outcome, str(info.get("reason", "")))
        return _ready(slots, rows, is_first=False)

    def _begin_due(self) -> list[Ready]:
        """Resets those whose time has come, one message for those of the same options."""
        now_s = self._clock()
        due = {slot: asked for slot, asked in self._resets.items() if asked[0] <= now_s}
        parts = []
        while due:
            options = next(iter(due.values()))[2]
            same = {slot: asked for slot, asked in due.items() if asked[2] == options}
            due = {slot: asked for slot, asked in due.items() if slot not in same}
            parts += self._begin(same, options)
        return parts

    def _begin(self, asked: Mapping[int, _Due], options: Mapping[str, Any] | None) -> list[Ready]:
        slots = list(asked)
        for slot in slots:
            del self._resets[slot]
        try:
            rows, failures = self.batch.reset(slots, [asked[i][1] for i in slots], options)
        except HOPELESS:
            raise
        except RaygymError as error:
            rows, failures = None, dict.fromkeys(slots, error)
        for slot, failure in failures.items():
            pause_s = self._records[slot].failed(failure)
            self._resets[slot] = (self._clock() + pause_s, *asked[slot][1:])
        for slot in slots:
            if slot not in failures:
                self._records[slot].began()
        if rows is None:
            return []
        ready = _ready(slots, rows, is_first=True)
        return [_picked(ready, [row for row, slot in enumerate(slots) if slot not in failures])]

    def _nothing(self) -> Ready:
        space = self.single_observation_space
        is_array = is_array_space(space)
        shape = (0, *(space.shape or ())) if is_array else (0,)
        no = np.zeros(0, np.bool_)
        return Ready(
            slots=np.zeros(0, np.int64),
            observations=np.zeros(shape, space.dtype if is_array else object),
            rewards=np.zeros(0),
            terminated=no,
            truncated=no,
            is_first=no,
            infos=[],
        )


def _ready(slots: Sequence[int], rows: Rows, *, is_first: bool) -> Ready:
    observations, rewards, terminated, truncated, infos = rows
    return Ready(
        slots=np.array(slots, np.int64),
        observations=observations,
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        is_first=np.full(len(slots), is_first),
        infos=infos,
    )


def _picked(ready: Ready, rows: list[int]) -> Ready:
    if len(rows) == len(ready.slots):
        return ready
    return Ready(
        slots=ready.slots[rows],
        observations=ready.observations[rows],
        rewards=ready.rewards[rows],
        terminated=ready.terminated[rows],
        truncated=ready.truncated[rows],
        is_first=ready.is_first[rows],
        infos=[ready.infos[row] for row in rows],
    )
