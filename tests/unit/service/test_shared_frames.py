from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

from raygym.service.shared_frames import FramesAddress, FramesPool, FramesReader, can_map


@pytest.fixture
def pool():
    pool = FramesPool()
    yield pool
    pool.close()


def address_of(pool: FramesPool, array: Any) -> FramesAddress:
    address = pool.address_of(array)
    assert address is not None
    return address


def test_what_is_written_on_one_side_is_read_on_the_other(pool):
    array = pool.take((2, 3), np.uint8)
    array[:] = 7
    seen = FramesReader().read(address_of(pool, array[:1]))
    assert seen.tolist() == [[7] * 3] * 2
    assert not seen.flags.writeable


def test_a_block_is_free_once_its_last_view_is_gone(pool):
    reader = FramesReader()
    address = address_of(pool, pool.take((2, 3), np.uint8))
    view = reader.read(address)[0, :2]
    assert reader.take_freed() == []
    del view
    assert reader.take_freed() == [address.token]
    assert reader.take_freed() == []


def test_a_free_block_is_used_again_and_one_that_is_lent_is_not(pool):
    first, second = pool.take((5,), np.uint8), pool.take((5,), np.uint8)
    assert first is not second
    token = address_of(pool, first).token
    pool.give_back(token)
    pool.give_back("unknown")
    assert pool.take((6,), np.uint8) is not first
    assert pool.take((5,), np.uint8) is first
    assert address_of(pool, first).token == token


def test_not_more_than_a_few_blocks_are_kept(pool):
    arrays = [pool.take((5,), np.uint8) for _ in range(10)]
    alive = [weakref.ref(array) for array in arrays]
    for array in arrays:
        pool.give_back(address_of(pool, array).token)
    del arrays, array
    assert sum(ref() is not None for ref in alive) == 4


def test_arrays_of_others_have_no_address(pool):
    assert pool.address_of(np.zeros(3)) is None


def test_a_block_that_is_gone_cannot_be_mapped_but_views_of_it_last():
    pool, reader = FramesPool(), FramesReader()
    array = pool.take((3,), np.uint8)
    array[:] = 9
    address = address_of(pool, array)
    assert can_map(address)
    seen = reader.read(address)
    pool.close()
    assert seen.tolist() == [9, 9, 9]
    assert not can_map(address)
    assert not can_map(None)


def test_a_descriptor_that_is_something_else_by_now_is_refused(pool):
    address = address_of(pool, pool.take((3,), np.uint8))
    other = FramesAddress(address.pid, address.fd, "0" * 16, address.shape, address.dtype)
    with pytest.raises(FileNotFoundError, match="by now"):
        FramesReader().read(other)


def test_a_reader_keeps_few_maps_and_reads_all(pool):
    reader = FramesReader()
    arrays = [pool.take((2,), np.int64) for _ in range(40)]
    for number, array in enumerate(arrays):
        array[:] = number
    addresses = [address_of(pool, array) for array in arrays]
    seen = [reader.read(address) for address in addresses]
    assert [int(array[0]) for array in seen] == list(range(40))
    assert len(reader._maps) <= 16
    assert int(reader.read(addresses[0])[1]) == 0
