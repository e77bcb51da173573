"""Python values with numpy in them survive the wire; others are described."""

from __future__ import annotations

import enum
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raygym.errors import RemoteProtocolError
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import (
    MAX_DEPTH,
    map_from_message,
    map_to_message,
    value_from_message,
    value_to_message,
)
from tests.support.space_strategies import are_same

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ARRAYS = hnp.arrays(
    st.one_of(
        hnp.scalar_dtypes().map(lambda dtype: dtype.newbyteorder("<")),
        hnp.unicode_string_dtypes(endianness="<", min_len=1),
    ),
    hnp.array_shapes(max_dims=2, max_side=3, min_side=0),
)
SCALARS = ARRAYS.filter(lambda array: array.size and array.dtype.kind != "U").map(
    lambda array: array.flat[0]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**200), 2**200),
        st.floats(),
        TEXTS,
        st.binary(max_size=8),
        ARRAYS,
        SCALARS,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=3),
    ),
    max_leaves=8,
)


def over_the_wire(value):
    return value_from_message(pb.Value.FromString(value_to_message(value).SerializeToString()))


def in_any_order(value):
    if isinstance(value, dict):
        return {key: in_any_order(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return type(value)(in_any_order(item) for item in value)
    return value


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert are_same(in_any_order(over_the_wire(value)), in_any_order(value))


@pytest.mark.parametrize("scalar", [np.float32(2.5), np.bool_(True), np.int8(-3), np.float64(0.1)])
def test_a_numpy_scalar_keeps_its_type(scalar):
    assert type(over_the_wire(scalar)) is type(scalar)
    assert over_the_wire(scalar) == scalar


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        ({1: [1], "1": [2]}, {"1": [2]}),
        (OrderedDict(a=1), {"a": 1}),
        (namedtuple("Point", "x y")(1, 2), (1, 2)),
        (enum.IntEnum("Level", "LOW").LOW, 1),
        (np.str_(""), ""),
        (np.bytes_(b""), b""),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (np.array([1, None, "a"], object), [1, None, "a"]),
        (
            {
                1,
            },
            "<repr>{1}",
        ),
        (3 + 4j, "<repr>(3+4j)"),
        ("\ud800", "<repr>'\\ud800'"),
        ({"\ud800": 1}, {"\\ud800": 1}),
        (np.zeros(1, [("a", "i1")]), "<repr>array([(0,)], dtype=[('a', 'i1')])"),
    ],
)
def test_a_value_of_another_type_becomes_the_nearest_that_there_is(value, expected):
    assert over_the_wire(value) == expected


def test_an_integer_of_thousands_of_digits_is_described():
    assert over_the_wire(1 << 20_000) == "<repr>int of 20001 bits"


def test_an_object_whose_repr_fails_is_named():
    class Sullen:
        def __repr__(self):
            raise RuntimeError("no")

    assert over_the_wire(Sullen()).endswith("Sullen whose repr fails")


def test_a_long_repr_is_cut():
    assert len(over_the_wire(set(range(10_000)))) < 1100


def nested(make, depth: int):
    value = make(None)
    for _ in range(depth - 1):
        value = make(value)
    return value


@pytest.mark.parametrize(
    "make", [lambda value: [value], lambda value: (value,), lambda value: {"key": value}]
)
def test_the_deepest_value_allowed_survives_within_a_response(make):
    value = nested(make, MAX_DEPTH)
    final = pb.Final(info=value_to_message(value))
    response = pb.Response(batch=pb.Batch(finals=[final]))
    back = pb.Response.FromString(response.SerializeToString())
    assert value_from_message(back.batch.finals[0].info) == value


def test_what_lies_deeper_is_described():
    value = over_the_wire(nested(lambda inner: [inner], MAX_DEPTH + 1))
    for _ in range(MAX_DEPTH):
        (value,) = value
    assert value == "<repr>[None]"


def test_values_that_hold_themselves_are_sent():
    values: list[object] = [1]
    values.append(values)
    assert over_the_wire(values)[0] == 1
    array = np.empty((), object)
    array[()] = array
    assert isinstance(over_the_wire(array), str)


def test_a_message_deeper_than_allowed_is_refused():
    message = pb.Value(null=True)
    for _ in range(MAX_DEPTH + 1):
        message = pb.Value(list=pb.List(items=[message]))
    with pytest.raises(RemoteProtocolError, match="within each other"):
        value_from_message(message)


def test_an_empty_message_is_none():
    assert value_from_message(pb.Value()) is None


def test_a_mapping_comes_back():
    mapping = {"lives": 3, 4: {"a": np.float32(1)}}
    assert map_from_message(map_to_message(mapping)) == {"lives": 3, "4": {"a": 1}}


@pytest.mark.parametrize(
    "message",
    [
        pb.Value(big_integer=""),
        pb.Value(big_integer="--1"),
        pb.Value(big_integer="1_0"),
        pb.Value(big_integer="²"),
        pb.Value(big_integer="9" * 5000),
        pb.Value(array=pb.Array(dtype="|O")),
        pb.Value(array=pb.Array(dtype="<f4", shape=[1], offset=0)),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(message):
    with pytest.raises(RemoteProtocolError):
        value_from_message(message)


@given(VALUES, st.data())
def test_a_damaged_value_is_refused_or_another_value(value, data):
    raw = bytearray(value_to_message(value).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = pb.Value.FromString(bytes(raw))
    except DecodeError:
        return
    try:
        back = value_from_message(message)
    except RemoteProtocolError:
        return
    value_to_message(back)
