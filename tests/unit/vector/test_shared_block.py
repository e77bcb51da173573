"""Shared memory of slots."""

from __future__ import annotations

import os

import numpy as np
import pytest
from gymnasium import spaces

from raygym.vector.shared_block import Block, BlockLayout

PICTURE = spaces.Box(0, 255, (3, 2), np.uint8)


def test_what_one_side_writes_the_other_reads() -> None:
    layout = BlockLayout.of(4, 2, PICTURE, spaces.Discrete(3))
    ours = Block(layout)
    fd = os.dup(ours.fd)
    theirs = Block(layout, fd)
    os.close(fd)
    assert theirs.current.tolist() == [-1, -1]
    ours.actions[2] = 2
    theirs.observations[1, 3] = 7
    theirs.rewards[3] = 0.5
    theirs.truncated[0] = True
    assert theirs.actions.tolist() == [0, 0, 2, 0]
    assert (ours.observations[1, 3] == 7).all()
    assert ours.observations.sum() == 7 * 6
    assert ours.rewards.tolist() == [0, 0, 0, 0.5]
    assert ours.truncated.tolist() == [True, False, False, False]
    ours.close()
    theirs.close()


def test_arrays_have_the_shapes_and_dtypes_of_the_spaces() -> None:
    block = Block(BlockLayout.of(3, 1, PICTURE, spaces.Box(-1, 1, (2,), np.float32)))
    assert (block.observations.shape, block.observations.dtype) == ((2, 3, 3, 2), np.uint8)
    assert (block.actions.shape, block.actions.dtype) == ((3, 2), np.float32)
    assert block.began_s.shape == (1,)
    block.close()


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Dict({"a": PICTURE})])
def test_values_that_are_no_arrays_take_no_room(space: spaces.Space) -> None:
    block = Block(BlockLayout.of(3, 1, space, space))
    assert block.observations.size == 0
    assert block.actions.size == 0
    block.close()


def test_arrays_do_not_overlap() -> None:
    starts, size = BlockLayout.of(5, 3, PICTURE, spaces.Discrete(3)).places()
    specs = BlockLayout.of(5, 3, PICTURE, spaces.Discrete(3)).specs()
    ends = [
        start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        for start, (shape, dtype) in zip(starts, specs, strict=True)
    ]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert ends[-1] <= size


def test_a_view_outlives_the_block() -> None:
    block = Block(BlockLayout.of(1, 1, PICTURE, PICTURE))
    block.observations[:] = 9
    view = block.observations[0]
    block.close()
    block.close()
    assert (view == 9).all()
