from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import ConfigError
from raygym.remote_env.rpc.batching import ActionBatches, batch_of, merged
from raygym.wire.leaves import stack_values, unstack_values
from tests.support.remote_envs import NESTED, same

COUNT = 3
LEAVES = [
    spaces.Discrete(4, start=-2),
    spaces.Discrete(4, dtype=np.int8),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary((2, 2)),
    spaces.Box(-1, 1, (2,), np.float32),
    spaces.Box(0, 9, (), np.int16),
    spaces.Text(5),
]
SPACES = [
    *LEAVES,
    NESTED,
    spaces.Tuple([spaces.Dict({"a": leaf, "t": spaces.Tuple([leaf])}) for leaf in LEAVES]),
]


def samples(space, seed):
    space.seed(seed)
    return [space.sample() for _ in range(COUNT)]


@given(st.sampled_from(SPACES), st.integers(0, 1000))
def test_batches_are_those_of_gymnasium(space, seed):
    values = samples(space, seed)
    expected = concatenate(space, values, create_empty_array(space, COUNT))
    assert same(batch_of(space, stack_values(space, values)), expected)


@given(st.sampled_from(SPACES), st.integers(0, 1000))
def test_batches_of_actions_become_leaves(space, seed):
    batched = batch_space(space, COUNT)
    batched.seed(seed)
    actions = batched.sample()
    leaves = ActionBatches(space, batched, COUNT).leaves(actions, None)
    assert same(unstack_values(space, leaves, COUNT), unstack(space, batched, actions))


def unstack(space, batched, actions):
    return unstack_values(space, stack_values(space, list(iterate(batched, actions))), COUNT)


def test_lists_and_other_integers_will_do():
    space = spaces.Discrete(4)
    batches = ActionBatches(space, batch_space(space, 3), 3)
    for actions in ([0, 3, 1], (0, 3, 1), np.array([0, 3, 1], np.uint8)):
        (leaf,) = batches.leaves(actions, None)
        assert same(leaf, np.array([0, 3, 1], np.int64))


@pytest.mark.parametrize(
    "actions",
    [
        [0, 4, 1],
        [0, -1, 1],
        [0, 1],
        [0, 1, 2, 3],
        [[0], [1], [2]],
        [0.0, 1.0, 2.0],
        ["0", "1", "2"],
        [None, None, None],
        3,
        None,
        {"a": 1},
    ],
)
def test_what_is_no_batch_of_actions_is_refused_with_the_space(actions):
    space = spaces.Discrete(4)
    batches = ActionBatches(space, batch_space(space, 3), 3)
    with pytest.raises(ConfigError, match=r"Discrete\(4\)"):
        batches.leaves(actions, None)


@pytest.mark.parametrize(
    "actions",
    [
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros((2, 2), np.float32), "b": (np.zeros(2, np.int64),), "c": 1},
        {"a": np.full((2, 2), 2, np.float32), "b": (np.zeros(2, np.int64),)},
        {"a": np.full((2, 2), np.nan, np.float32), "b": (np.zeros(2, np.int64),)},
        {"a": np.zeros((2, 2), np.float32), "b": 7},
        {"a": np.zeros((2, 2), np.float32), "b": ()},
        [],
        (1, 2),
    ],
)
def test_what_is_no_batch_of_composed_actions_is_refused(actions):
    space = spaces.Dict(
        {"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Tuple([spaces.Discrete(3)])}
    )
    batches = ActionBatches(space, batch_space(space, 2), 2)
    with pytest.raises(ConfigError, match="step: "):
        batches.leaves(actions, None)


def test_the_message_names_the_environment():
    space = spaces.Discrete(4)
    batches = ActionBatches(space, batch_space(space, 3), 3)
    with pytest.raises(ConfigError, match="environment 2 9 is not in"):
        batches.leaves([0, 1, 9], None)


def test_ignored_actions_may_be_out_of_bounds():
    space = spaces.Discrete(4)
    batches = ActionBatches(space, batch_space(space, 3), 3)
    ignored = np.array([False, True, False])
    assert batches.leaves([0, 9, 1], ignored)[0].tolist() == [0, 9, 1]
    with pytest.raises(ConfigError, match="environment 0"):
        batches.leaves([9, 9, 1], ignored)


def test_rows_are_merged_into_copies():
    before = [np.arange(3), ["a", "b", "c"]]
    after = merged(before, [np.array([7, 8]), ["x", "y"]], [2, 0])
    assert after[0].tolist() == [8, 1, 7]
    assert after[1] == ["y", "b", "x"]
    assert before[0].tolist() == [0, 1, 2]
    assert before[1] == ["a", "b", "c"]
