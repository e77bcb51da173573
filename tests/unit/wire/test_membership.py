"""What is refused as an action, and what the refusal says."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given

from raygym.wire.leaves import leaf_spaces, stack_values
from raygym.wire.membership import are_members, explain
from tests.support.space_strategies import spaces_and_values

BOX = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict(left=spaces.Tuple([spaces.Discrete(2), BOX]))


@given(spaces_and_values())
def test_whatever_a_space_samples_is_in_it(drawn):
    space, values = drawn
    assert [explain(space, value) for value in values] == [None] * len(values)
    assert are_members(leaf_spaces(space), stack_values(space, values))


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(2), np.array(1)),
        (spaces.Discrete(2), True),
        (spaces.Discrete(2, start=-1, dtype=np.int8), np.uint64(0)),
        (spaces.Discrete(2, start=126, dtype=np.int8), 127),
        (BOX, [0, 1]),
        (BOX, np.array([0.5, -1.0])),
        (BOX, np.array([1 + 1e-12, 0.0])),
        (spaces.Box(0, 255, (1,), np.uint8), np.array([255])),
        (spaces.MultiDiscrete([3, 2]), np.array([2, 1], np.uint8)),
        (spaces.MultiBinary(2), [0, 1]),
        (NESTED, {"left": [1, [0, 0]]}),
    ],
)
def test_a_number_may_come_in_another_form(space, value):
    assert explain(space, value) is None


@pytest.mark.parametrize(
    ("space", "value", "text"),
    [
        (spaces.Discrete(2), 2, "action 2 is not in Discrete(2): it must be from 0 to 1"),
        (
            spaces.Discrete(3, start=-1),
            np.int64(-2),
            "action np.int64(-2) is not in Discrete(3, start=-1): it must be from -1 to 1",
        ),
        (
            spaces.Discrete(2),
            1.0,
            "action 1.0 is not in Discrete(2): it is a float, not an integer",
        ),
        (
            BOX,
            [0, 2.0],
            "action [0, 2.0] is not in Box(-1.0, 1.0, (2,), float32): 1 of its 2 numbers are out "
            "of bounds, first at (1,)",
        ),
        (
            BOX,
            [0, np.nan],
            "action [0, nan] is not in Box(-1.0, 1.0, (2,), float32): 1 of its 2 numbers are NaN",
        ),
        (
            BOX,
            [0],
            "action [0] is not in Box(-1.0, 1.0, (2,), float32): its shape is [1], not [2]",
        ),
        (
            spaces.Text(2, charset="ab"),
            "ac",
            "action 'ac' is not in Text(1, 2, charset=ab): characters ['c'] are not allowed",
        ),
        (
            spaces.Text(2, charset="ab"),
            "abab",
            "action 'abab' is not in Text(1, 2, charset=ab): it has 4 characters, not 1 to 2",
        ),
    ],
)
def test_a_refusal_names_the_value_the_space_and_the_reason(space, value, text):
    assert explain(space, value) == text


@pytest.mark.parametrize(
    ("space", "value", "text"),
    [
        (BOX, ["a", "b"], "its dtype is <U1, not float32"),
        (BOX, [[1], [1, 2]], "its rows differ in length"),
        (BOX, None, "its shape is []"),
        (spaces.Box(0, 9, (1,), np.int32), [0.5], "its dtype is float64, not int32"),
        (spaces.Box(0, 1, (1,), np.bool_), [1], "its dtype is int64, not bool"),
        (spaces.Box(0, 9, (1,), np.uint8), [-1], "first at (0,)"),
        (spaces.Box(0, 9, (1,), np.uint8), [2**70], "object, not uint8"),
        (spaces.MultiDiscrete([3, 2]), [0, 2], "first at (1,)"),
        (spaces.MultiDiscrete([3, 2]), [-1, 0], "first at (0,)"),
        (spaces.MultiDiscrete([3], start=[120], dtype=np.int8), [-128], "first at (0,)"),
        (spaces.MultiBinary(2), [0, 2], "first at (1,)"),
        (spaces.Discrete(2), None, "NoneType"),
        (spaces.Text(2), 3, "not a string"),
        (NESTED, 3, "not a dict"),
        (NESTED, {"right": 1}, "keys missing: ['left'], too many: ['right']"),
        (NESTED, {"left": 3}, "action['left'] 3 is not in Tuple"),
        (NESTED, {"left": (1,)}, "it has 1 parts, not 2"),
        (NESTED, {"left": (5, [0, 0])}, "action['left'][0] 5 is not in Discrete(2)"),
        (spaces.Sequence(spaces.Discrete(2)), 3, "it is no member"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(space, value, text):
    assert text in str(explain(space, value))


def test_a_refusal_is_short_however_long_the_value_is():
    assert len(str(explain(BOX, "x" * 10**6))) < 600


@pytest.mark.parametrize(
    ("space", "leaf"),
    [
        (spaces.Discrete(2), np.array([0, 2])),
        (spaces.Discrete(2, start=1), np.array([0, 1])),
        (BOX, np.array([[0, 0], [0, np.nan]], np.float32)),
        (BOX, np.array([[0, 0], [0, 2]], np.float32)),
        (spaces.MultiDiscrete([2, 2]), np.array([[0, 0], [0, 2]])),
        (spaces.MultiBinary(2), np.array([[0, 0], [0, 2]], np.int8)),
        (spaces.Text(2, charset="a"), ["a", "b"]),
    ],
)
def test_one_stranger_in_a_batch_is_noticed(space, leaf):
    assert not are_members([space], [leaf])


def test_an_empty_batch_holds_no_stranger():
    assert are_members([spaces.Discrete(2)], [np.zeros(0, np.int64)])
