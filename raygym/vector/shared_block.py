"""One block of memory that a process and its children share, and that has no name to be left."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.vector.slot_record import is_array_space

_ALIGNMENT_BYTES = 64

_Spec: TypeAlias = tuple[tuple[int, ...], str]
"""Shape and dtype."""


def _spec(space: gymnasium.Space[Any]) -> _Spec:
    """Returns the shape and dtype of a value; an empty one where it is no array."""
    if not is_array_space(space) or space.shape is None:
        return (0,), "u1"
    return tuple(space.shape), np.dtype(space.dtype).str


@dataclass(frozen=True)
class BlockLayout:
    """What lies where in a block."""

    num_slots: int
    num_processes: int
    observation: _Spec
    """Of one slot; empty where observations are no arrays, and are pickled."""
    action: _Spec
    """The same of an action."""

    @classmethod
    def of(
        cls,
        num_slots: int,
        num_processes: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> BlockLayout:
        """Returns the layout for slots of these spaces."""
        return cls(num_slots, num_processes, _spec(observation_space), _spec(action_space))

    def specs(self) -> Sequence[_Spec]:
        """Returns shape and dtype of each array, in the order of Block's fields."""
        slots, processes = self.num_slots, self.num_processes
        return (
            ((2, slots, *self.observation[0]), self.observation[1]),
            ((slots, *self.action[0]), self.action[1]),
            ((slots,), "f8"),
            ((slots,), "?"),
            ((slots,), "?"),
            ((slots,), "u1"),
            ((slots,), "f8"),
            ((processes,), "i8"),
            ((processes,), "f8"),
        )

    def places(self) -> tuple[list[int], int]:
        """Returns where each array begins, and the size of all, in bytes."""
        starts, end = [], 0
        for shape, dtype in self.specs():
            starts.append(end)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            end += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        return starts, max(end, 1)


class Block:
    """The arrays in it.

    Each slot has two places for an observation: a process that ends in the midst of writing
    one leaves the one before whole.

    Args:
        layout: What lies where.
        fd: Of the memory, from another Block of the same layout; it stays the caller's. Without
            it memory is made.
    """

    observations: npt.NDArray[Any]
    """[2, N, ...] of the space's dtype."""
    actions: npt.NDArray[Any]
    """[N, ...]."""
    rewards: npt.NDArray[np.float64]
    """[N]."""
    terminated: npt.NDArray[np.bool_]
    """[N]."""
    truncated: npt.NDArray[np.bool_]
    """[N]."""
    sides: npt.NDArray[np.uint8]
    """[N]: which of its two places a slot's next observation goes to."""
    step_s: npt.NDArray[np.float64]
    """[N]: how long the last step took."""
    current: npt.NDArray[np.int64]
    """[P]: the slot that a process is busy with, or -1."""
    began_s: npt.NDArray[np.float64]
    """[P]: since when, of ``time.monotonic``, which all processes share."""

    def __init__(self, layout: BlockLayout, fd: int | None = None) -> None:
        self.layout = layout
        starts, size = layout.places()
        self.fd = -1
        """For others to share it; -1 where it is another's, or closed."""
        if fd is None:
            self.fd = os.memfd_create("raygym-slots", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
        memory = mmap.mmap(self.fd if fd is None else fd, size)
        arrays = [
            np.ndarray(shape, dtype, memory, start)
            for (shape, dtype), start in zip(layout.specs(), starts, strict=True)
        ]
        self.observations, self.actions, self.rewards, self.terminated = arrays[:4]
        self.truncated, self.sides, self.step_s, self.current, self.began_s = arrays[4:]
        if fd is None:
            self.current[:] = -1

    def close(self) -> None:
        """Lets go of the memory; it lives as long as the last view of it. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        # An array that nobody else holds goes, and with the last of them the mapping.
        self.observations = self.actions = np.empty(0)
        self.rewards = self.step_s = self.began_s = np.empty(0)
        self.terminated = self.truncated = np.empty(0, np.bool_)
        self.sides, self.current = np.empty(0, np.uint8), np.empty(0, np.int64)
