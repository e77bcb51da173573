"""The newest observations of slots."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from raygym.vector.row_store import RowStore, in_order, joined, part_of
from raygym.vector.slots import Ready

SPACE = spaces.Box(0, 255, (2,), np.uint8)


def ready(slots: list[int], value: int = 0) -> Ready:
    count = len(slots)
    return Ready(
        slots=np.array(slots, np.int64),
        observations=np.array([[slot, value] for slot in slots], np.uint8).reshape(count, 2),
        rewards=np.array(slots, np.float64),
        terminated=np.array([slot == 1 for slot in slots], np.bool_),
        truncated=np.zeros(count, np.bool_),
        is_first=np.zeros(count, np.bool_),
        infos=[{"slot": slot} for slot in slots],
    )


def test_rows_that_came_in_part_stand_beside_older_ones() -> None:
    store = RowStore(SPACE, 3)
    store.put(ready([0, 1, 2], 1))
    store.put(ready([1], 2))
    assert store.batch().tolist() == [[0, 1], [1, 2], [2, 1]]


def test_what_was_settled_does_not_change_with_the_slots_memory() -> None:
    store, answer = RowStore(SPACE, 2), ready([0, 1], 1)
    store.put(answer)
    store.settle()
    answer.observations[:] = 9
    assert store.batch().tolist() == [[0, 1], [1, 1]]
    assert store.row(1).tolist() == [1, 1]


def test_batches_and_rows_are_copies() -> None:
    store = RowStore(SPACE, 2)
    store.put(ready([0, 1], 1))
    store.batch()[:] = 9
    store.row(0)[:] = 9
    assert store.batch().tolist() == [[0, 1], [1, 1]]


def test_objects_become_the_batch_that_gymnasium_makes() -> None:
    store = RowStore(spaces.Tuple((spaces.Discrete(3), SPACE)), 2)
    rows = np.empty(2, object)
    rows[:] = [(1, np.array([1, 2], np.uint8)), (2, np.array([3, 4], np.uint8))]
    numbers, pairs = store.copied(rows)
    assert numbers.tolist() == [1, 2]
    assert pairs.tolist() == [[1, 2], [3, 4]]


def test_answers_are_joined_sorted_and_cut_with_all_that_belongs_to_a_row() -> None:
    both = in_order(joined([ready([2, 0]), ready([1])]))
    assert both.slots.tolist() == [0, 1, 2]
    assert both.observations[:, 0].tolist() == [0, 1, 2]
    assert both.rewards.tolist() == [0, 1, 2]
    assert both.terminated.tolist() == [False, True, False]
    assert [info["slot"] for info in both.infos] == [0, 1, 2]
    last = part_of(both, range(1, 3))
    assert last.slots.tolist() == [1, 2]
    assert [info["slot"] for info in last.infos] == [1, 2]
    both.observations[:] = 9
    assert last.observations[:, 0].tolist() == [1, 2]
