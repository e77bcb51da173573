"""Spaces survive the wire; nonsense is refused before anything large is allocated."""

from __future__ import annotations

import tracemalloc

import gymnasium
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.arrays import array_to_message
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import (
    MAX_SPACE_DEPTH,
    MAX_SPACE_ELEMENTS,
    MAX_SPACES,
    space_from_message,
    space_to_message,
)
from tests.support.space_strategies import SPACES, are_same


def over_the_wire(space):
    return space_from_message(pb.Space.FromString(space_to_message(space).SerializeToString()))


@given(SPACES, st.integers(0, 1000))
def test_a_space_comes_back_equal_and_samples_the_same(space, seed):
    back = over_the_wire(space)
    assert back == space
    assert str(back) == str(space)
    space.seed(seed)
    back.seed(seed)
    assert are_same(back.sample(), space.sample())


def test_a_dict_keeps_the_order_of_its_keys():
    space = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    assert list(over_the_wire(space).spaces) == ["z", "a"]


def test_uniform_bounds_are_sent_as_one_number():
    message = space_to_message(spaces.Box(0, 255, (1024, 768, 3), np.uint8))
    assert message.ByteSize() < 60


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 3)])
def test_bounds_that_differ_are_sent_whole(shape):
    low = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    space = spaces.Box(low, low + 1, dtype=np.float32)
    np.testing.assert_array_equal(over_the_wire(space).high, low + 1)


@pytest.mark.parametrize(
    ("space", "where"),
    [
        (spaces.Sequence(spaces.Discrete(2)), "space: a Sequence"),
        (spaces.Graph(spaces.Discrete(2), None), "space: a Graph"),
        (
            spaces.Dict(a=spaces.Tuple([spaces.Discrete(2), spaces.OneOf([spaces.Discrete(2)])])),
            r"space\['a'\]\[1\]: a OneOf",
        ),
    ],
)
def test_a_space_that_the_protocol_lacks_is_refused_with_its_place(space, where):
    with pytest.raises(ConfigError, match=where):
        space_to_message(space)


def test_a_foreign_space_is_refused():
    class Odd(gymnasium.Space):
        pass

    with pytest.raises(ConfigError, match="Odd"):
        space_to_message(Odd())


def nested(depth: int):
    space = spaces.Discrete(2)
    for _ in range(depth):
        space = spaces.Dict([("deeper", space)])
    return space


def test_the_deepest_nesting_allowed_survives_the_wire():
    assert over_the_wire(nested(MAX_SPACE_DEPTH)) == nested(MAX_SPACE_DEPTH)


@pytest.mark.parametrize(
    "space",
    [
        nested(MAX_SPACE_DEPTH + 1),
        spaces.Tuple([spaces.Discrete(2)] * MAX_SPACES),
        spaces.Dict([("\ud800", spaces.Discrete(2))]),
        spaces.Dict([(3, spaces.Discrete(2))]),
        spaces.Text(3, charset="\ud800"),
        spaces.Text(2**32),
        spaces.Discrete(2, start=2**63, dtype=np.uint64),
    ],
    ids=["deep", "many", "surrogate key", "integer key", "charset", "long text", "start"],
)
def test_a_space_beyond_the_limits_is_not_sent(space):
    with pytest.raises(ConfigError, match="space"):
        space_to_message(space)


ZERO, ONE = np.float32(0), np.float32(1)


def text_space(**fields):
    return pb.Space(text=pb.Text(**fields))


def box(dtype="<f4", shape=(2,), low=ZERO, high=ONE):
    bounds = {"low": array_to_message(low), "high": array_to_message(high)}
    return pb.Space(box=pb.Box(dtype=dtype, shape=shape, **bounds))


def multi_discrete(nvec, start, dtype="<i4"):
    arrays = {"nvec": array_to_message(nvec), "start": array_to_message(start)}
    return pb.Space(multi_discrete=pb.MultiDiscrete(dtype=dtype, **arrays))


def deep_message(depth: int):
    message = pb.Space(discrete=pb.Discrete(n=2, dtype="<i8"))
    for _ in range(depth):
        message = pb.Space(tuple=pb.TupleSpace(spaces=[message]))
    return message


@pytest.mark.parametrize(
    "message",
    [
        pb.Space(),
        pb.Space(box=pb.Box()),
        box(dtype="|O"),
        box(dtype="<f5"),
        box(dtype="<c8", low=np.complex64(0), high=np.complex64(1)),
        box(low=np.float64(0)),
        box(low=np.zeros(3, np.float32)),
        box(low=np.float32(2)),
        box(low=np.float32(np.nan)),
        box(shape=(2**63, 2**63)),
        box(shape=(MAX_SPACE_ELEMENTS + 1,)),
        box(shape=(2**40, 0)),
        box(shape=(1,) * 40),
        pb.Space(discrete=pb.Discrete(n=0, dtype="<i8")),
        pb.Space(discrete=pb.Discrete(n=2**63, dtype="<i8")),
        pb.Space(discrete=pb.Discrete(n=200, dtype="|i1")),
        pb.Space(discrete=pb.Discrete(n=2, start=-1, dtype="|u1")),
        pb.Space(discrete=pb.Discrete(n=2, start=127, dtype="|i1")),
        pb.Space(discrete=pb.Discrete(n=2, dtype="<f4")),
        pb.Space(discrete=pb.Discrete(n=2)),
        multi_discrete(np.int32([2, 0]), np.int32([0, 0])),
        multi_discrete(np.int32([2, 2]), np.int32([0])),
        multi_discrete(np.int64([2, 2]), np.int32([0, 0])),
        multi_discrete(np.int32([2, 2]), np.int32([0, 2**31 - 1])),
        multi_discrete(np.float32([2]), np.float32([0]), "<f4"),
        pb.Space(multi_binary=pb.MultiBinary(shape=[3, 0])),
        pb.Space(multi_binary=pb.MultiBinary(shape=[2**40])),
        text_space(min_length=3, max_length=2, charset="a"),
        pb.Space(dict=pb.DictSpace(keys=["a"])),
        pb.Space(dict=pb.DictSpace(keys=["a", "a"], spaces=[deep_message(0)] * 2)),
        pb.Space(tuple=pb.TupleSpace(spaces=[pb.Space()])),
        pb.Space(tuple=pb.TupleSpace(spaces=[deep_message(0)] * MAX_SPACES)),
        deep_message(MAX_SPACE_DEPTH + 1),
    ],
)
def test_a_message_that_describes_no_space_is_refused(message):
    with pytest.raises(RemoteProtocolError, match=r"space|array"):
        space_from_message(message)


def test_a_space_of_many_large_parts_is_refused_before_they_are_allocated():
    part = space_to_message(spaces.Box(0, 1, (2**21,), np.uint8))
    message = pb.Space(tuple=pb.TupleSpace(spaces=[box(shape=(MAX_SPACE_ELEMENTS + 1,)), part]))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="numbers"):
            space_from_message(message)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(SPACES, st.data())
def test_a_damaged_space_is_refused_or_another_space(space, data):
    raw = bytearray(space_to_message(space).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = pb.Space.FromString(bytes(raw))
    except DecodeError:
        return
    try:
        back = space_from_message(message)
    except RemoteProtocolError:
        return
    space_to_message(back)
