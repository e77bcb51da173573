"""Tensors have the very bytes of dm_env_rpc v1, and any valid encoding of them is read."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.dm_tensors import tensor_from_message, tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb

DTYPES = st.sampled_from(
    ["<f4", "<f8", "|i1", "<i4", "<i8", "|u1", "<u4", "<u8", "|b1"],
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, payload: bytes) -> bytes:
    """One length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def official(number: int, payload: bytes, shape: tuple[int, ...]) -> bytes:
    """A Tensor as dm_env_rpc's own class writes it: its payload, packed, then its shape."""
    inner = field(1, payload) if payload else b""
    axes = field(15, b"".join(map(varint, shape))) if shape else b""
    return field(number, inner) + axes


def encoded(array) -> bytes:
    return tensor_to_message(array).SerializeToString()


FLOATS = [1.5, -0.0, float("inf"), float("nan"), 1e-40]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array(FLOATS, "<f4"), official(1, struct.pack("<5f", *FLOATS), (5,))),
        (np.array(FLOATS, ">f4"), official(1, struct.pack("<5f", *FLOATS), (5,))),
        (np.array([FLOATS]), official(2, struct.pack("<5d", *FLOATS), (1, 5))),
        (np.float32(2.5), official(1, struct.pack("<f", 2.5), ())),
        (2.5, official(2, struct.pack("<d", 2.5), ())),
        (np.array([-1, 2], np.int8), official(3, b"\xff\x02", (2,))),
        (np.array([-1, 300], np.int32), official(4, varint(-1) + varint(300), (2,))),
        (3, official(5, varint(3), ())),
        (-(2**63), official(5, varint(-(2**63)), ())),
        (np.array([[7], [8]], np.uint8), official(6, b"\x07\x08", (2, 1))),
        (np.array([2**32 - 1], np.uint32), official(7, varint(2**32 - 1), (1,))),
        (np.array([2**64 - 1], np.uint64), official(8, varint(2**64 - 1), (1,))),
        ([True, False], official(9, b"\x01\x00", (2,))),
        (True, official(9, b"\x01", ())),
        ("hé", field(10, field(1, "hé".encode()))),
        (["a", "bc"], field(10, field(1, b"a") + field(1, b"bc")) + field(15, b"\x02")),
        (np.float16(1.5), official(1, struct.pack("<f", 1.5), ())),
        (np.array([-5], np.int16), official(4, varint(-5), (1,))),
        (np.array([5], np.uint16), official(4, varint(5), (1,))),
    ],
)
def test_a_tensor_has_the_official_bytes(array, expected):
    assert encoded(array) == expected


@pytest.mark.parametrize("number", [1, 2])
def test_a_tensor_of_no_floats_still_says_its_type(number):
    array = np.zeros((0, 2), np.float32 if number == 1 else np.float64)
    raw = encoded(array)
    assert raw == official(number, b"", (0, 2))
    assert tensor_from_message(pb.Tensor.FromString(raw)).dtype == array.dtype


@given(hnp.arrays(DTYPES, SHAPES))
def test_an_array_comes_back_as_it_was(array):
    back = tensor_from_message(pb.Tensor.FromString(encoded(array)))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_strings_come_back_as_an_object_array(texts):
    back = tensor_from_message(tensor_to_message(np.array(texts, dtype=object)))
    assert back.dtype == object
    assert back.tolist() == texts


@pytest.mark.parametrize(
    "value",
    [np.zeros(2, np.complex64), np.array([None]), [1, "a", None], np.longdouble(1), "\ud800", b"a"],
    ids=["complex", "object", "mixed", "long double", "surrogate", "bytes"],
)
def test_what_dm_env_rpc_does_not_have_is_not_sent(value):
    with pytest.raises(ConfigError):
        tensor_to_message(value)


def read(number: int, payload: bytes, *shape: int):
    axes = b"".join(map(varint, shape))
    return tensor_from_message(pb.Tensor.FromString(field(number, payload) + field(15, axes)))


PACKED = field(1, struct.pack("<6f", *range(6)))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (-1,), (-1, 3), (2, -1, 1)])
def test_one_axis_may_be_left_to_the_reader(shape):
    array = read(1, PACKED, *shape)
    assert array.ravel().tolist() == list(range(6))
    assert array.shape == np.zeros(6).reshape(shape).shape


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 3), (2, 3)), ((-1, 3), (1, 3)), ((), ()), ((1,), (1,))]
)
@pytest.mark.parametrize("number", [1, 10])
def test_one_element_stands_for_all(number, shape, expected):
    payload = field(1, struct.pack("<f", 2.5) if number == 1 else b"x")
    array = read(number, payload, *shape)
    assert array.shape == expected
    assert set(array.ravel().tolist()) == {2.5 if number == 1 else "x"}


@pytest.mark.parametrize(
    ("number", "key", "packing", "values"),
    [(1, 0x0D, "<f", [1.5, -2.0]), (2, 0x09, "<d", [1.5, -2.0]), (9, 0x08, "<B", [1, 0])],
)
def test_fields_that_were_not_packed_are_read(number, key, packing, values):
    payload = b"".join(bytes([key]) + struct.pack(packing, value) for value in values)
    assert read(number, payload, 2).tolist() == values


def test_booleans_may_be_any_varints():
    payload = varint(0) + varint(1) + varint(2) + varint(300) + b"\x80\x00" + varint(128)
    assert read(9, field(1, payload), 6).tolist() == [False, True, True, True, False, True]


def test_shapes_that_are_not_packed_are_read():
    raw = field(1, PACKED) + b"\x78\x02" + b"\x78\x03"
    assert tensor_from_message(pb.Tensor.FromString(raw)).shape == (2, 3)


@pytest.mark.parametrize(
    ("number", "payload", "shape"),
    [
        (1, PACKED, ()),
        (1, PACKED, (5,)),
        (1, PACKED, (7,)),
        (1, PACKED, (-1, 4)),
        (1, PACKED, (-1, -1)),
        (1, PACKED, (-2, 3)),
        (1, PACKED, (-1, 0)),
        (1, PACKED, (1,) * 40),
        (1, field(1, b"123"), (1,)),
        (1, field(1, b"1234"), (2**31 - 1, 2**31 - 1)),
        (1, b"", (1,)),
        (1, b"", ()),
        (1, b"", (2**31 - 1, 2**31 - 1, 2**31 - 1)),
        (1, b"", (0, 2**31 - 1, 2**31 - 1, 2**31 - 1)),
        (6, field(1, b"1"), (2**31 - 1,)),
        (9, field(1, b"\x80"), (1,)),
        (11, b"", (0,)),
    ],
)
def test_a_payload_that_does_not_make_up_the_shape_is_refused(number, payload, shape):
    with pytest.raises(RemoteProtocolError, match="tensor"):
        read(number, payload, *shape)


def test_a_tensor_without_payload_is_refused():
    with pytest.raises(RemoteProtocolError, match="payload None"):
        tensor_from_message(pb.Tensor(shape=[2]))


def test_broadcasting_allocates_one_element():
    array = read(6, field(1, b"\x07"), 1000, 1000, 30)
    assert array.strides == (0, 0, 0)
    assert array[999, 999, 29] == 7


@given(hnp.arrays(DTYPES, SHAPES), st.data())
def test_a_damaged_tensor_is_refused_or_another_array(array, data):
    raw = bytearray(encoded(array))
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = pb.Tensor.FromString(bytes(raw))
    except DecodeError:
        return
    try:
        tensor_from_message(message)
    except RemoteProtocolError:
        return
