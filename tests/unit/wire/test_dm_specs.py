"""Specs say what spaces say, as far as dm_env_rpc can."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from raygym.wire.dm_specs import (
    MAX_TEXT_LENGTH,
    space_from_spec,
    spec_to_message,
    tensor_for_spec,
    value_for_space,
)
from raygym.wire.dm_tensors import tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb
from raygym.wire.spaces import MAX_SPACE_ELEMENTS
from tests.support.space_strategies import LEAVES, are_same


def over_the_wire(space):
    spec = spec_to_message("action", space)
    return space_from_spec(pb.TensorSpec.FromString(spec.SerializeToString()))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (4,), np.float32),
        spaces.Box(0, 255, (210, 160, 3), np.uint8),
        spaces.Box(-np.inf, np.inf, (2,), np.float64),
        spaces.Box(np.array([-1, -np.inf]), np.array([1, np.inf]), dtype=np.float64),
        spaces.Box(0, np.inf, (3,), np.float32),
        spaces.Box(-5, 5, (3,), np.int64),
        spaces.Box(0, 9, (3,), np.uint32),
        spaces.Box(0, 2**64 - 1, (3,), np.uint64),
        spaces.Box(-128, 127, (2, 2), np.int8),
        spaces.Box(0, 1, (2,), np.bool_),
        spaces.Box(0, 1, (0,), np.float32),
        spaces.Box(0, 1, (), np.float32),
        spaces.Discrete(5),
        spaces.Discrete(5, start=-2),
        spaces.Discrete(200, dtype=np.uint8),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiDiscrete([[3, 4], [5, 6]], dtype=np.int32),
        spaces.MultiBinary(3),
        spaces.MultiBinary([2, 3]),
    ],
    ids=str,
)
def test_a_space_comes_back_equal(space):
    back = over_the_wire(space)
    assert type(back) is type(space)
    assert back == space
    assert back.dtype == space.dtype


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(-1, 1, (2,), np.float16), spaces.Box(-1, 1, (2,), np.float32)),
        (spaces.Box(-3, 3, (2,), np.int16), spaces.Box(-3, 3, (2,), np.int32)),
        (spaces.Box(3, 9, (2,), np.uint16), spaces.Box(3, 9, (2,), np.int32)),
        (spaces.Discrete(3, dtype=np.int16), spaces.Discrete(3, dtype=np.int32)),
        (
            spaces.MultiDiscrete([3, 4], start=[1, 1]),
            spaces.Box(np.array([1, 1]), np.array([3, 4]), dtype=np.int64),
        ),
        (spaces.Box(0, 4, (2,), np.int64), spaces.MultiDiscrete([5, 5])),
        (spaces.Box(0, 1, (), np.bool_), spaces.Discrete(2)),
    ],
    ids=str,
)
def test_a_space_that_dm_env_rpc_cannot_say_becomes_the_nearest(space, expected):
    back = over_the_wire(space)
    assert back == expected
    assert back.dtype == expected.dtype


def test_a_text_comes_back_as_a_longer_one():
    back = over_the_wire(spaces.Text(3))
    assert isinstance(back, spaces.Text)
    assert back.max_length == MAX_TEXT_LENGTH


def test_bounds_that_are_the_same_everywhere_are_one_number():
    spec = spec_to_message("observation", spaces.Box(0, 255, (1024, 768, 3), np.uint8))
    assert spec.min.uint8s.array == b"\x00"
    assert spec.max.uint8s.array == b"\xff"


def test_no_bounds_are_sent_where_there_are_none():
    for space in (spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-128, 127, (2,), np.int8)):
        spec = spec_to_message("observation", space)
        assert not spec.HasField("min")
        assert not spec.HasField("max")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Dict(),
        spaces.Box(0, 1, (2,), np.longdouble),
    ],
)
def test_a_space_that_is_no_tensor_is_refused(space):
    with pytest.raises(ConfigError):
        spec_to_message("action", space)


def floats(*values):
    packed = pb.Packed(array=np.array(values, "<f4").tobytes())
    return pb.TensorSpec.Value(floats=packed)


def int64s(*values):
    return pb.TensorSpec.Value(int64s=pb.Int64Array(array=values))


@pytest.mark.parametrize(
    "spec",
    [
        pb.TensorSpec(),
        pb.TensorSpec(dtype=pb.PROTO),
        pb.TensorSpec(dtype=99),
        pb.TensorSpec(dtype=pb.STRING, shape=[2]),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[-1]),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[1] * 40),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[MAX_SPACE_ELEMENTS + 1]),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[2**31 - 1, 0, 2]),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[3], min=floats(0, 0)),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[3], min=floats()),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[3], min=floats(float("nan"))),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[3], min=floats(2), max=floats(1)),
        pb.TensorSpec(dtype=pb.FLOAT, shape=[3], min=int64s(2)),
        pb.TensorSpec(dtype=pb.INT64, min=int64s(2), max=int64s(1)),
    ],
)
def test_a_spec_that_describes_no_space_is_refused(spec):
    with pytest.raises(RemoteProtocolError):
        space_from_spec(spec)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((0,), (4,), spaces.Discrete),
        ((-(2**63),), (2**63 - 1,), spaces.Box),
        ((0,), (2**63 - 1,), spaces.Box),
    ],
)
def test_an_integer_is_a_choice_if_its_dtype_can_count_them(low, high, expected):
    spec = pb.TensorSpec(dtype=pb.INT64, min=int64s(*low), max=int64s(*high))
    assert type(space_from_spec(spec)) is expected


@given(LEAVES, st.integers(0, 1000))
def test_values_travel_as_the_tensors_of_their_spec(space, seed):
    space.seed(seed)
    value = space.sample()
    spec = spec_to_message("action", space)
    tensor = tensor_for_spec(spec, value)
    assert are_same(value_for_space(space, tensor), value)


@given(LEAVES, st.integers(0, 1000))
def test_a_value_of_the_peers_space_fits_ours(space, seed):
    spec = spec_to_message("action", space)
    theirs = space_from_spec(spec)
    if isinstance(theirs, spaces.Text):
        return
    theirs.seed(seed)
    value = value_for_space(space, tensor_for_spec(spec, theirs.sample()))
    assert np.asarray(value).dtype == space.dtype


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 1, (2,)), np.zeros(3)),
        (spaces.Box(0, 1, (2,)), "ab"),
        (spaces.Discrete(3, dtype=np.int32), 0.5),
        (spaces.Discrete(3, dtype=np.uint8), 300),
        (spaces.MultiBinary(1), [2.5]),
    ],
)
def test_a_value_that_its_spec_does_not_hold_is_not_sent(space, value):
    with pytest.raises(LocalProtocolError, match="action"):
        tensor_for_spec(spec_to_message("action", space), value)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 1, (2,)), np.zeros(3, np.float32)),
        (spaces.Box(0, 1, (2,)), np.zeros(2)),
        (spaces.Box(0, 1, (2,)), ["a", "b"]),
        (spaces.Discrete(3), np.int32(1)),
        (spaces.Discrete(3), 1.0),
        (spaces.Discrete(3, dtype=np.int16), np.int32(2**20)),
        (spaces.Text(3), 1),
        (spaces.Text(3), ["a"]),
    ],
)
def test_a_tensor_of_another_kind_is_refused(space, value):
    with pytest.raises(RemoteProtocolError, match="tensor"):
        value_for_space(space, tensor_to_message(value))


@given(LEAVES, st.data())
def test_a_damaged_spec_is_refused_or_another_space(space, data):
    raw = bytearray(spec_to_message("action", space).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        spec = pb.TensorSpec.FromString(bytes(raw))
    except DecodeError:
        return
    try:
        space_from_spec(spec)
    except RemoteProtocolError:
        return
