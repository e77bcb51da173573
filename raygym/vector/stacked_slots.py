"""Slots whose observations are stacks of frames."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.errors import ConfigError
from raygym.vector.slots import Int64Array, Ready, SlotReport, Slots


class StackedSlots:
    """Slots that show the last frames of an episode side by side along the last axis.

    The newest frame is last. At an episode's start its first frame is repeated. A step that
    failed leaves the stack as it was.

    Args:
        slots: Whose observations are Boxes, such as uint8[H, W, 1]; closed with this.
        frame_stack: How many frames, from 1.

    Raises:
        ConfigError: The observations are no Boxes, or the number makes no sense.
    """

    def __init__(self, slots: Slots, frame_stack: int) -> None:
        space = slots.single_observation_space
        if frame_stack < 1:
            raise ConfigError(f"frame_stack: expected 1 or more, got {frame_stack!r}")
        if not isinstance(space, gymnasium.spaces.Box) or not space.shape:
            raise ConfigError(f"frame_stack: observations must be Boxes with an axis, not {space}")
        self.num_slots = slots.num_slots
        self.single_observation_space: gymnasium.Space[Any] = gymnasium.spaces.Box(
            np.concatenate([space.low] * frame_stack, axis=-1),
            np.concatenate([space.high] * frame_stack, axis=-1),
            dtype=space.dtype,  # type: ignore[arg-type]
        )
        self.single_action_space = slots.single_action_space
        self.slots = slots
        """Those below."""
        self._frame_stack = frame_stack
        self._width = space.shape[-1]
        shape = (slots.num_slots, *(self.single_observation_space.shape or ()))
        self._stacks: npt.NDArray[Any] = np.zeros(shape, space.dtype)
        self._word = _word(self._stacks, frame_stack)

    def reset(
        self,
        slots: Sequence[int] | Int64Array,
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins episodes. See ``Slots``."""
        self.slots.reset(slots, seeds, options)

    def send(self, slots: Sequence[int] | Int64Array, actions: Any) -> None:
        """Takes steps. See ``Slots``."""
        self.slots.send(slots, actions)

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        """Returns what is ready, with stacks for observations. See ``Slots``."""
        ready = self.slots.recv(at_least=at_least, timeout_s=timeout_s)
        count = len(ready.slots)
        if count == self.num_slots and bool((ready.slots == np.arange(count)).all()):
            self._push(self._stacks, ready)
            return replace(ready, observations=self._stacks)
        stacks = self._stacks[ready.slots]
        self._push(stacks, ready)
        self._stacks[ready.slots] = stacks
        return replace(ready, observations=stacks)

    def render(self) -> Any:
        """Returns what those below render; None where they cannot."""
        render = getattr(self.slots, "render", None)
        return None if render is None else render()

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        return self.slots.reports()

    def close(self) -> None:
        """Closes those below."""
        self.slots.close()

    def _push(self, stacks: npt.NDArray[Any], ready: Ready) -> None:
        """Moves a frame into each stack, in place."""
        kept = {
            row: stacks[row].copy()
            for row in np.flatnonzero(ready.truncated).tolist()
            if ready.infos[row].get("outcome", "ok") != "ok"
        }
        width = self._width
        if self._word is None:
            stacks[..., :-width] = stacks[..., width:]
        else:
            words = stacks.view(self._word)
            np.right_shift(words, 8 * width * stacks.itemsize, out=words)
        stacks[..., -width:] = ready.observations
        for row in np.flatnonzero(ready.is_first).tolist():
            frame = ready.observations[row]
            stacks[row] = np.concatenate([frame] * self._frame_stack, axis=-1)
        for row, stack in kept.items():
            stacks[row] = stack


def _word(stacks: npt.NDArray[Any], frame_stack: int) -> np.dtype[Any] | None:
    """Returns the integer that holds a pixel's stack, where there is one.

    Its lowest byte is the first in memory, so a shift to the right drops the oldest frame: 20
    times as fast as moving the bytes one by one.
    """
    size = stacks.shape[-1] * stacks.itemsize
    if size not in (2, 4, 8) or frame_stack == 1 or sys.byteorder != "little":
        return None
    return np.dtype(f"u{size}")
