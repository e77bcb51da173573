"""Arrays of every dtype but object survive the wire, inline and in shared memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.arrays import array_from_message, array_to_message
from raygym.wire.proto import raygym_v1_pb2 as pb

DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1),
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(hnp.arrays(DTYPES, SHAPES))
def test_an_array_comes_back_with_its_bytes_dtype_and_shape(array):
    raw = array_to_message(array).SerializeToString()
    back = array_from_message(pb.Array.FromString(raw))
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert not back.flags.writeable


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros(2, ">f4"), "<f4"),
        (np.zeros(2, bool), "|b1"),
        (np.zeros(2, np.uint8), "|u1"),
        (np.array("2026-01-01", "M8[D]"), "<M8[D]"),
        (np.array(["ab"]), "<U2"),
    ],
)
def test_a_dtype_is_named_little_endian(array, dtype):
    assert array_to_message(array).dtype == dtype


def test_an_array_that_is_not_contiguous_goes_in_c_order():
    array = np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    np.testing.assert_array_equal(array_from_message(array_to_message(array)), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "V4"),
        np.zeros(2, np.dtypes.StringDType()),
        np.zeros(0, np.dtype([])),
    ],
    ids=["object", "structured", "void", "variable strings", "no fields"],
)
def test_an_array_without_a_wire_dtype_is_not_sent(array):
    with pytest.raises(ConfigError, match="cannot be sent"):
        array_to_message(array)


@pytest.mark.parametrize(
    "message",
    [
        pb.Array(),
        pb.Array(dtype="|O", shape=[1], data=b"12345678"),
        pb.Array(dtype="|V4", shape=[1], data=b"1234"),
        pb.Array(dtype="f4,f4", shape=[1], data=b"12345678"),
        pb.Array(dtype=">f4", shape=[1], data=b"1234"),
        pb.Array(dtype="<f3", shape=[1], data=b"123"),
        pb.Array(dtype="<U0", shape=[1]),
        pb.Array(dtype="<M8[eon]", shape=[1], data=b"12345678"),
        pb.Array(dtype="<f4", shape=[2], data=b"1234"),
        pb.Array(dtype="<f4", shape=[1], data=b"12345"),
        pb.Array(dtype="<f4", shape=[2**63, 2**63], data=b"1234"),
        pb.Array(dtype="<f4", shape=[0, 2**40]),
        pb.Array(dtype="<f4", shape=[1] * 33, data=b"1234"),
        pb.Array(dtype="<f4", shape=[1], offset=0),
    ],
)
def test_an_array_that_makes_no_sense_is_refused(message):
    with pytest.raises(RemoteProtocolError, match="array"):
        array_from_message(message)


def test_an_array_in_shared_memory_is_a_view_of_it():
    memory = bytearray(256)
    memory[64:72] = np.array([1.5, 2.5], "<f4").tobytes()
    message = pb.Array(dtype="<f4", shape=[2], offset=64)
    view = array_from_message(message, memoryview(memory))
    assert view.tolist() == [1.5, 2.5]
    assert not view.flags.writeable
    memory[64:68] = np.array(7, "<f4").tobytes()
    assert view[0] == 7


@pytest.mark.parametrize(
    "message",
    [
        pb.Array(dtype="<f4", shape=[2], offset=252),
        pb.Array(dtype="<f4", shape=[2], offset=2**64 - 4),
        pb.Array(dtype="<f4", shape=[2**40], offset=0),
        pb.Array(dtype="<f4", shape=[0], offset=257),
        pb.Array(dtype="<f4", shape=[1], offset=0, data=b"1234"),
    ],
)
def test_an_array_outside_its_shared_memory_is_refused(message):
    with pytest.raises(RemoteProtocolError, match="array"):
        array_from_message(message, memoryview(bytearray(256)))


def test_an_empty_array_may_lie_in_shared_memory():
    message = pb.Array(dtype="<f4", shape=[0, 3], offset=256)
    assert array_from_message(message, memoryview(bytearray(256))).shape == (0, 3)


@given(st.text(max_size=12), st.lists(st.integers(0, 2**64 - 1), max_size=5), st.binary())
def test_any_other_array_is_read_or_refused(dtype, shape, data):
    message = pb.Array(dtype=dtype, shape=shape, data=data)
    try:
        array_from_message(message)
    except RemoteProtocolError:
        return
