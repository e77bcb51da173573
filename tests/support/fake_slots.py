"""Slots that play by a script, and policies that say what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Acted, Float32Array
from raygym.vector.slots import Int64Array, Ready, SlotReport
from tests.support.clocks import Clock


class FakeSlots:
    """Slots without environments: an observation tells its slot, episode and step.

    Observations are float32[3]: slot, episode (from 0) and step (0 for an episode's first). The
    reward of a step is its number in the episode, from 1.

    Args:
        num_slots: How many.
        episode_steps: Length of the episodes.
        is_cut: Whether episodes end by truncation.
        pace: For a slot and the number of its answer, after how many ticks it comes; a
            ``recv`` without a timeout ticks until enough are ready.
        info: The info of a slot's step, by (slot, episode, step); one with an ``outcome``
            other than ``ok`` ends the episode with reward 0.0.
        action_space: Of one slot.
        clock: Moved on by one second a tick.
    """

    def __init__(
        self,
        num_slots: int,
        *,
        episode_steps: int = 5,
        is_cut: bool = False,
        pace: Callable[[int, int], int] = lambda _slot, _answer: 1,
        info: Callable[[int, int, int], Mapping[str, Any]] = lambda *_: {},
        action_space: gymnasium.Space[Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.num_slots = num_slots
        self.single_observation_space: gymnasium.Space[Any] = gymnasium.spaces.Box(
            0, 1e6, (3,), np.float32
        )
        self.single_action_space = action_space or gymnasium.spaces.Discrete(4)
        self.seeds: list[list[int | None]] = [[] for _ in range(num_slots)]
        self.sent: list[list[Any]] = [[] for _ in range(num_slots)]
        self.batches: list[list[int]] = []
        self.is_closed = False
        self._episode_steps = episode_steps
        self._is_cut = is_cut
        self._pace = pace
        self._info = info
        self._clock = clock or Clock()
        self._tick = 0
        self._answers = [0] * num_slots
        self._due: dict[int, int] = {}
        self._episodes = [-1] * num_slots
        self._steps = [0] * num_slots
        self._is_over = [True] * num_slots

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """See ``Slots``."""
        for row, slot in enumerate(int(one) for one in slots):
            assert slot not in self._due, f"slot {slot} is busy"
            self.seeds[slot].append(None if seeds is None else seeds[row])
            self._episodes[slot] += 1
            self._steps[slot] = 0
            self._is_over[slot] = False
            self._owe(slot)

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """See ``Slots``."""
        self.batches.append([int(slot) for slot in slots])
        for slot, action in zip((int(one) for one in slots), actions, strict=True):
            assert slot not in self._due, f"slot {slot} is busy"
            assert not self._is_over[slot], f"slot {slot} waits for a reset"
            self.sent[slot].append(action)
            self._steps[slot] += 1
            self._owe(slot)

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """See ``Slots``."""
        assert timeout_s is not None or len(self._due) >= at_least, "this would never end"
        left = timeout_s
        while len(ready := [s for s, tick in self._due.items() if tick <= self._tick]) < at_least:
            if left is not None and left <= 0:
                break
            self._tick += 1
            self._clock.now_s += 1.0
            left = None if left is None else left - 1.0
        return self._answer(ready)

    def reports(self) -> Sequence[SlotReport]:
        """See ``Slots``."""
        return [
            SlotReport(slot=slot, state="running" if self._answers[slot] else "starting")
            for slot in range(self.num_slots)
        ]

    def close(self) -> None:
        """See ``Slots``."""
        self.is_closed = True

    def _owe(self, slot: int) -> None:
        self._due[slot] = self._tick + self._pace(slot, self._answers[slot])
        self._answers[slot] += 1

    def _answer(self, slots: list[int]) -> Ready:
        infos, rewards, terminated, truncated = [], [], [], []
        for slot in slots:
            del self._due[slot]
            step = self._steps[slot]
            info = self._info(slot, self._episodes[slot], step)
            has_failed = info.get("outcome", "ok") != "ok" and step > 0
            is_end = step == self._episode_steps
            self._is_over[slot] = has_failed or is_end
            infos.append(info)
            rewards.append(0.0 if has_failed else float(step))
            terminated.append(is_end and not self._is_cut and not has_failed)
            truncated.append(has_failed or (is_end and self._is_cut))
        return Ready(
            slots=np.array(slots, np.int64),
            observations=np.array(
                [[s, self._episodes[s], self._steps[s]] for s in slots], np.float32
            ).reshape(len(slots), 3),
            rewards=np.array(rewards, np.float64),
            terminated=np.array(terminated, np.bool_),
            truncated=np.array(truncated, np.bool_),
            is_first=np.array([self._steps[s] == 0 for s in slots], np.bool_),
            infos=infos,
        )


class FakePolicy:
    """Its action is the step modulo 4, its value the step, its state the steps it acted for.

    Args:
        has_state: Whether it keeps a recurrent state, float32[B, 1].
        actions: Makes the actions of [B, 3] observations.
    """

    def __init__(
        self,
        *,
        has_state: bool = True,
        actions: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
    ) -> None:
        self.weights_version = 0
        self.batches: list[int] = []
        self._has_state = has_state
        self._actions = actions or (lambda seen: seen[:, 2].astype(np.int64) % 4)

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns zeros."""
        return (np.zeros((batch, 1), np.float32),) if self._has_state else ()

    def act(self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]) -> Acted:
        """Adds 1 to the state."""
        self.batches.append(len(observations))
        return Acted(
            actions=self._actions(observations),
            log_probabilities=np.full(len(observations), -0.5, np.float32),
            values=observations[:, 2].astype(np.float32),
            state=tuple(part + 1 for part in state),
            extras={"logits": np.repeat(observations[:, 2:], 4, axis=1)},
        )

    def values(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Float32Array:
        """Returns 100 and the step, and 1000 times the state."""
        base = 100.0 + observations[:, 2]
        return (base + 1000 * state[0][:, 0] if state else base).astype(np.float32)

    def set_weights(self, weights: Any, version: int) -> None:
        """Takes over the version."""
        self.weights = weights
        self.weights_version = version
