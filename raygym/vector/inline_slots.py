"""Slots of this thread: a plain loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from raygym.errors import RaygymError
from raygym.vector.slot_record import (
    HOPELESS,
    EnvFactory,
    SlotRecord,
    close_quietly,
    empty_observations,
    failure_info,
    remotes_of,
)
from raygym.vector.slots import Int64Array, Ready, SlotReport
from raygym.vector.supervision import Supervision

_Due: TypeAlias = tuple[float, int | None, Mapping[str, Any] | None]
"""When a reset is tried again, with which seed and options."""


class InlineSlots:
    """Environments of this thread, stepped one after the other by ``send``.

    Nothing supervises them: one that hangs, hangs all. A step that raises ends the episode of
    its slot; after anything but a RaygymError the environment is made anew by the next reset.

    Args:
        factory: Makes the environment of a slot. That of slot 0 is made now, the others by
            their first reset.
        num_slots: How many.
        supervision: How long a slot whose reset failed backs off.
        close_also: Called last by ``close``.
        sleep: Waits for a slot that backs off, in seconds.
        clock: Seconds that only grow.

    Raises:
        RaygymError: The first environment could not be made.
    """

    def __init__(
        self,
        factory: EnvFactory,
        num_slots: int,
        *,
        supervision: Supervision | None = None,
        close_also: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_slots = num_slots
        self._factory = factory
        self._close_also = close_also
        self._sleep = sleep
        self._clock = clock
        self._records = [SlotRecord(i, supervision or Supervision()) for i in range(num_slots)]
        self._envs: list[gymnasium.Env[Any, Any] | None] = [None] * num_slots
        first = self._made(0)
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self._observations = empty_observations(first.observation_space, num_slots)
        self._rewards = np.zeros(num_slots)
        self._terminated = np.zeros(num_slots, np.bool_)
        self._truncated = np.zeros(num_slots, np.bool_)
        self._is_first = np.zeros(num_slots, np.bool_)
        self._infos: list[Mapping[str, Any]] = [{}] * num_slots
        self._all = list(range(num_slots))
        self._ready: list[int] = []
        self._due: dict[int, _Due] = {}
        self._fatal: Exception | None = None

    @property
    def envs(self) -> Sequence[gymnasium.Env[Any, Any] | None]:
        """The environments; None for one that is not there now."""
        return self._envs

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins episodes; one that fails is tried again by ``recv``. See ``Slots``."""
        for row, slot in enumerate(_plain(slots)):
            self._begin(slot, None if seeds is None else seeds[row], options)

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Takes the steps; what came of them is handed out by ``recv``. See ``Slots``."""
        envs, observations, infos = self._envs, self._observations, self._infos
        rewards, terminated, truncated = self._rewards, self._terminated, self._truncated
        numbers = _plain(slots)
        for slot, action in zip(numbers, actions, strict=True):
            try:
                (
                    observations[slot],
                    rewards[slot],
                    terminated[slot],
                    truncated[slot],
                    infos[slot],
                ) = envs[slot].step(action)  # type: ignore[union-attr]
            except Exception as error:  # noqa: BLE001  it may raise anything
                if isinstance(error, HOPELESS):
                    self._fatal = error
                    continue
                self._cut(slot, error)
            else:
                if truncated[slot] and infos[slot].get("outcome", "ok") != "ok":
                    self._note_cut(slot)
            self._ready.append(slot)
        self._is_first[numbers] = False

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Hands out what ``send`` and ``reset`` did. See ``Slots``."""
        if self._due and self._fatal is None:
            self._try_again(at_least, timeout_s)
        if self._fatal is not None:
            error, self._fatal = self._fatal, None
            raise error
        ready, self._ready = self._ready, []
        if ready == self._all:
            rows: Any = slice(None)
            observations, infos = self._observations, list(self._infos)
        else:
            rows = np.array(ready, np.int64)
            observations, infos = self._observations[rows], [self._infos[i] for i in ready]
        return Ready(
            slots=np.array(ready, np.int64),
            observations=observations,
            rewards=self._rewards[rows].copy(),
            terminated=self._terminated[rows].copy(),
            truncated=self._truncated[rows].copy(),
            is_first=self._is_first[rows].copy(),
            infos=infos,
        )

    def render(self) -> tuple[Any, ...]:
        """Returns what each environment renders; None for one that is not there now."""
        return tuple(None if env is None else env.render() for env in self._envs)

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        pairs = zip(self._records, self._envs, strict=True)
        return [record.report(env) for record, env in pairs]

    def close(self) -> None:
        """Closes the environments. May be called twice."""
        for slot, record in enumerate(self._records):
            self._retire(slot, is_lost=False)
            record.closed()
        self._due.clear()
        self._ready.clear()
        close_also, self._close_also = self._close_also, lambda: None
        close_also()

    def _begin(self, slot: int, seed: int | None, options: Mapping[str, Any] | None) -> None:
        given = None if options is None else dict(options)
        try:
            env = self._envs[slot] or self._made(slot)
            self._observations[slot], self._infos[slot] = env.reset(seed=seed, options=given)
        except Exception as error:  # noqa: BLE001  it may raise anything
            if isinstance(error, HOPELESS):
                self._fatal = error
                return
            if not isinstance(error, RaygymError):
                self._retire(slot, is_lost=True)
            pause_s = self._records[slot].failed(error)
            self._due[slot] = (self._clock() + pause_s, seed, options)
            return
        self._records[slot].began()
        self._rewards[slot] = 0.0
        self._terminated[slot] = self._truncated[slot] = False
        self._is_first[slot] = True
        self._ready.append(slot)

    def _try_again(self, at_least: int, timeout_s: float | None) -> None:
        until_s = None if timeout_s is None else self._clock() + timeout_s
        while self._due and self._fatal is None:
            slot, (at_s, seed, options) = min(self._due.items(), key=lambda item: item[1][0])
            now_s = self._clock()
            if at_s > now_s:
                if len(self._ready) >= at_least:
                    return
                if until_s is not None and at_s > until_s:
                    self._sleep(max(0.0, until_s - now_s))
                    return
                self._sleep(at_s - now_s)
            del self._due[slot]
            self._begin(slot, seed, options)

    def _made(self, slot: int) -> gymnasium.Env[Any, Any]:
        env = self._factory(slot)
        self._envs[slot] = env
        self._records[slot].made()
        return env

    def _cut(self, slot: int, error: Exception) -> None:
        self._rewards[slot] = 0.0
        self._terminated[slot], self._truncated[slot] = False, True
        self._infos[slot] = failure_info(error)
        self._note_cut(slot)
        if not isinstance(error, RaygymError):
            self._retire(slot, is_lost=True)

    def _note_cut(self, slot: int) -> None:
        info = self._infos[slot]
        self._records[slot].cut(info["outcome"], str(info.get("reason", "")))

    def _retire(self, slot: int, *, is_lost: bool) -> None:
        env, self._envs[slot] = self._envs[slot], None
        if env is not None:
            close_quietly(env, is_lost=is_lost)
            self._records[slot].gone(*remotes_of(env))


def _plain(slots: Sequence[int] | Int64Array) -> list[int]:
    return slots.tolist() if isinstance(slots, np.ndarray) else list(slots)
