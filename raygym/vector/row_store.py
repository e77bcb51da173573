"""The newest observation of each slot, and batches of them for callers to keep."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector.utils import concatenate, create_empty_array

from raygym.vector.slot_record import empty_observations, is_array_space
from raygym.vector.slots import Int64Array, Ready


class RowStore:
    """Keeps what slots showed last; copies no more often than it must.

    Args:
        space: Of one observation.
        count: How many slots.
    """

    def __init__(self, space: gymnasium.Space[Any], count: int) -> None:
        self._space = space
        self._is_array = is_array_space(space)
        self._rows = empty_observations(space, count)
        self._view: npt.NDArray[Any] | None = None

    def put(self, ready: Ready) -> None:
        """Takes in what slots answered, in their order.

        Where they are all of them ``settle`` must follow before any is told more.
        """
        if len(ready.slots) == len(self._rows):
            self._view = ready.observations
        elif len(ready.slots):
            self.settle()
            self._rows[ready.slots] = ready.observations

    def settle(self) -> None:
        """Makes what was put its own, so that slots may write over it."""
        if self._view is not None:
            self._rows[:] = self._view
            self._view = None

    def forget_view(self) -> None:
        """Says that each slot will be put anew, so that nothing needs settling."""
        self._view = None

    def row(self, slot: int) -> Any:
        """Returns a copy of one observation."""
        row = (self._rows if self._view is None else self._view)[slot]
        return np.array(row) if isinstance(self._space, gymnasium.spaces.Box) else copy.copy(row)

    def batch(self) -> Any:
        """Returns a copy of all, as the batched space says."""
        return self.copied(self._rows if self._view is None else self._view)

    def copied(self, rows: npt.NDArray[Any]) -> Any:
        """Returns a copy of some rows as a batch: an array, or what Gymnasium makes of others."""
        if self._is_array:
            return rows.copy()
        room = create_empty_array(self._space, len(rows), fn=np.zeros)
        return concatenate(self._space, list(rows), room)


def joined(parts: list[Ready]) -> Ready:
    """Returns several answers as one."""
    if len(parts) == 1:
        return parts[0]
    return Ready(
        slots=np.concatenate([part.slots for part in parts]),
        observations=np.concatenate([part.observations for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
        is_first=np.concatenate([part.is_first for part in parts]),
        infos=[info for part in parts for info in part.infos],
    )


def part_of(ready: Ready, rows: Sequence[int] | range) -> Ready:
    """Returns some rows of an answer; its observations are a copy."""
    index = np.asarray(rows, np.int64)
    return Ready(
        slots=ready.slots[index],
        observations=ready.observations[index],
        rewards=ready.rewards[index],
        terminated=ready.terminated[index],
        truncated=ready.truncated[index],
        is_first=ready.is_first[index],
        infos=[ready.infos[row] for row in rows],
    )


def in_order(ready: Ready) -> Ready:
    """Returns an answer with its rows in the order of their slots."""
    if not (ready.slots[1:] < ready.slots[:-1]).any():
        return ready
    return part_of(ready, np.argsort(ready.slots).tolist())


def plain_ids(ids: Any) -> Int64Array:
    """Returns slot numbers as int64[n]."""
    return np.asarray(ids, np.int64).reshape(-1)
