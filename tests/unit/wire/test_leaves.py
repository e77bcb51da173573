"""Values of spaces survive the wire, stacked, alone and in shared memory."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import LocalProtocolError, RemoteProtocolError
from raygym.wire.leaves import (
    ALIGNMENT_BYTES,
    leaf_spaces,
    leaves_from_messages,
    leaves_to_messages,
    shared_memory_bytes,
    single_from_messages,
    single_to_messages,
    stack_values,
    unstack_values,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.space_strategies import are_same, spaces_and_values

BOX = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict(
    [
        ("z", spaces.Tuple([BOX, spaces.Discrete(3, start=-1)])),
        ("a", spaces.Dict(name=spaces.Text(5), on=spaces.MultiBinary(2))),
    ]
)


def over_the_wire(messages):
    return [pb.Leaf.FromString(message.SerializeToString()) for message in messages]


@given(spaces_and_values())
def test_stacked_values_come_back_as_they_were(drawn):
    space, values = drawn
    messages = over_the_wire(leaves_to_messages(stack_values(space, values)))
    leaves = leaves_from_messages(messages, leaf_spaces(space), len(values))
    assert are_same(unstack_values(space, leaves, len(values)), values)


@given(spaces_and_values(), st.integers(0, 300))
def test_values_come_back_through_a_shared_memory_of_any_size(drawn, size_bytes):
    space, values = drawn
    memory = memoryview(bytearray(size_bytes))
    messages = over_the_wire(leaves_to_messages(stack_values(space, values), memory))
    leaves = leaves_from_messages(messages, leaf_spaces(space), len(values), memory)
    assert are_same(unstack_values(space, leaves, len(values)), values)


@given(spaces_and_values())
def test_the_size_announced_holds_every_array(drawn):
    space, values = drawn
    memory = memoryview(bytearray(shared_memory_bytes(space, len(values))))
    for message in leaves_to_messages(stack_values(space, values), memory):
        assert not message.array.data
        assert message.array.offset % ALIGNMENT_BYTES == 0


@given(spaces_and_values())
def test_a_value_alone_comes_back_as_it_was(drawn):
    space, values = drawn
    for value in values:
        back = single_from_messages(space, over_the_wire(single_to_messages(space, value)))
        assert are_same(back, value)


def test_leaves_follow_in_the_order_of_the_space_depth_first():
    kinds = [type(leaf).__name__ for leaf in leaf_spaces(NESTED)]
    assert kinds == ["Box", "Discrete", "Text", "MultiBinary"]


def test_a_discrete_value_comes_back_as_a_scalar_of_its_dtype():
    space = spaces.Discrete(3, dtype=np.int32)
    values = unstack_values(space, stack_values(space, [1, np.int64(2)]), 2)
    assert [(type(value), int(value)) for value in values] == [(np.int32, 1), (np.int32, 2)]


def test_an_array_of_no_axes_comes_back_as_an_array():
    space = spaces.Box(0, 1, ())
    value = unstack_values(space, stack_values(space, [np.zeros((), np.float32)]), 1)[0]
    assert isinstance(value, np.ndarray)
    assert value in space


def test_a_lone_array_is_not_copied():
    value = np.zeros(2, np.float32)
    assert np.shares_memory(stack_values(BOX, [value])[0], value)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (BOX, np.array([0.5, 0.25]), np.array([0.5, 0.25], np.float32)),
        (BOX, [0, 1], np.array([0, 1], np.float32)),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([3, 255]), np.array([3, 255], np.uint8)),
        (spaces.MultiBinary(2), np.array([True, False]), np.array([1, 0], np.int8)),
        (spaces.MultiDiscrete([3, 3]), [1, 2], np.array([1, 2])),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_numbers_are_cast_where_nothing_is_lost(space, value, expected, count):
    (leaf,) = stack_values(space, [value] * count)
    assert are_same(leaf, np.stack([expected] * count))


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (BOX, np.zeros(3, np.float32)),
        (BOX, np.float32(0)),
        (BOX, ["a", "b"]),
        (BOX, [[1], [1, 2]]),
        (BOX, None),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([-1, 0])),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 0])),
        (spaces.Discrete(3), 1.0),
        (spaces.Discrete(3), "1"),
        (spaces.Discrete(3, dtype=np.int8), 300),
        (spaces.Text(3), b"abc"),
        (NESTED, {"z": (np.zeros(2), 0)}),
        (NESTED, 3),
        (spaces.Tuple([BOX]), ()),
        (spaces.Tuple([BOX]), 3),
        (spaces.Tuple([BOX]), {0: np.zeros(2), 1: 2}),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_value_that_does_not_fit_is_not_sent(space, value, count):
    with pytest.raises(LocalProtocolError, match="value"):
        stack_values(space, [value] * count)


def test_a_text_that_is_no_unicode_is_not_sent():
    with pytest.raises(LocalProtocolError, match="Unicode"):
        leaves_to_messages([["\ud800"]])


def leaf(array):
    return leaves_to_messages([array])[0]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [leaf(np.zeros((2, 2), np.float32))] * 2,
        [leaf(np.zeros((1, 2), np.float32))],
        [leaf(np.zeros(2, np.float32))],
        [leaf(np.zeros((2, 2), np.float64))],
        [leaf(["a", "b"])],
        [pb.Leaf()],
        [pb.Leaf(array=pb.Array(dtype="<f4", shape=[2, 2], data=b"short"))],
        [pb.Leaf(array=pb.Array(dtype="<f4", shape=[2, 2], offset=0))],
    ],
)
def test_leaves_that_do_not_fit_the_space_are_refused(messages):
    with pytest.raises(RemoteProtocolError):
        leaves_from_messages(messages, [BOX], 2)


@pytest.mark.parametrize("messages", [[leaf(["a"])], [leaf(np.zeros(2))], [pb.Leaf()]])
def test_texts_that_do_not_fit_are_refused(messages):
    with pytest.raises(RemoteProtocolError, match="texts"):
        leaves_from_messages(messages, [spaces.Text(3)], 2)


@given(spaces_and_values(), st.data())
def test_damaged_leaves_are_refused_or_other_values(drawn, data):
    space, values = drawn
    count = len(values)
    batch = pb.Batch(observations=leaves_to_messages(stack_values(space, values)))
    raw = bytearray(batch.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = pb.Batch.FromString(bytes(raw))
    except DecodeError:
        return
    try:
        leaves = leaves_from_messages(damaged.observations, leaf_spaces(space), count)
    except RemoteProtocolError:
        return
    assert len(unstack_values(space, leaves, count)) == count
