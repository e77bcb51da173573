from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raygym.core import Rollout
from raygym.service.rollouts import RolloutBuilder, Step, join_rollouts
from raygym.service.slot_sampler import SlotSampler
from tests.support.fake_slots import FakePolicy, FakeSlots


def make_step(number: int, **changes: object) -> Step:
    return Step(
        **{
            "observation": np.full((2, 3, 1), number, np.uint8),
            "action": number % 3,
            "log_probability": -0.5,
            "value": float(number),
            "reward": 10.0 * number,
            "terminated": False,
            "truncated": False,
            "is_ok": True,
            "final_value": 0.0,
            **changes,
        }
    )


def make_rollout(first: int = 0, version: int = 3) -> Rollout:
    state = (np.full((1, 4), first, np.float32),)
    builder = RolloutBuilder(3, state, version)
    for number in range(first, first + 3):
        builder.add(make_step(number))
    return builder.finish(np.full((2, 3, 1), first + 3, np.uint8))


def test_a_rollout_holds_the_steps_in_order_with_one_slot():
    rollout = make_rollout()
    assert rollout.observations.shape == (3, 1, 2, 3, 1)
    assert rollout.observations[:, 0, 0, 0, 0].tolist() == [0, 1, 2]
    assert rollout.actions.tolist() == [[0], [1], [2]]
    assert rollout.rewards.tolist() == [[0.0], [10.0], [20.0]]
    assert rollout.values.dtype == np.float32
    assert rollout.mask.all()
    assert not (rollout.terminated | rollout.truncated).any()
    assert rollout.last_observation.shape == (1, 2, 3, 1)
    assert rollout.last_observation.max() == 3
    assert rollout.weights_version == 3


def test_ends_and_failures_stand_at_their_step():
    builder = RolloutBuilder(2, (), 0)
    builder.add(make_step(1, truncated=True, final_value=7.0))
    builder.add(make_step(2, truncated=True, is_ok=False))
    rollout = builder.finish(np.zeros((2, 3, 1), np.uint8))
    assert rollout.truncated.tolist() == [[True], [True]]
    assert rollout.mask.tolist() == [[True], [False]]
    assert rollout.final_values.tolist() == [[7.0], [0.0]]


def test_a_rollout_owns_its_memory():
    picture = np.zeros((2, 3, 1), np.uint8)
    state = np.zeros((1, 4), np.float32)
    builder = RolloutBuilder(1, (state,), 0)
    builder.add(make_step(0, observation=picture))
    rollout = builder.finish(picture)
    picture[:] = 9
    state[:] = 9
    assert not rollout.observations.any()
    assert not rollout.last_observation.any()
    assert not rollout.initial_state[0].any()


def test_a_rollout_is_not_handed_out_before_it_is_full():
    builder = RolloutBuilder(2, (), 0)
    builder.add(make_step(0))
    assert not builder.is_full
    with pytest.raises(ValueError, match="of 2 steps has only 1"):
        builder.finish(np.zeros((2, 3, 1), np.uint8))


def test_joined_rollouts_stand_side_by_side_and_count_as_the_oldest():
    joined = join_rollouts([make_rollout(0, version=5), make_rollout(10, version=4)])
    assert joined.observations.shape == (3, 2, 2, 3, 1)
    assert joined.rewards.tolist() == [[0.0, 100.0], [10.0, 110.0], [20.0, 120.0]]
    assert joined.last_observation[:, 0, 0, 0].tolist() == [3, 13]
    assert joined.initial_state[0][:, 0].tolist() == [0.0, 10.0]
    assert joined.weights_version == 4


def test_one_rollout_joined_is_itself():
    rollout = make_rollout()
    assert join_rollouts([rollout]) is rollout


def test_traces_and_extras_are_joined_and_ids_become_one():
    def played(names: tuple[str, ...], first_slot: int) -> Rollout:
        slots = FakeSlots(
            len(names), info=lambda slot, *_: {"remote_id": names[slot]} if names[slot] else {}
        )
        sampler = SlotSampler(slots, FakePolicy(), rollout_steps=2, first_slot=first_slot)
        rollout = sampler.collect()
        assert rollout is not None
        return rollout

    joined = join_rollouts([played(("a", ""), 0), played(("b", "a"), 2)])
    traces = joined.traces
    assert traces is not None
    assert traces.slots.tolist() == [0, 1, 2, 3]
    names = [traces.remote_ids[n] if n >= 0 else "" for n in traces.remotes[1]]
    assert names == ["a", "", "b", "a"]
    assert sorted(traces.remote_ids) == ["a", "b"]
    assert traces.lag_ms.shape == (2, 4, 4)
    assert joined.extras["logits"].shape == (2, 4, 4)


def test_one_rollout_without_traces_leaves_the_whole_without():
    assert join_rollouts([make_rollout(), make_rollout()]).traces is None


def test_final_observations_of_rollouts_side_by_side_stand_row_by_row() -> None:
    parts = []
    for column, rows in enumerate(((2,), (0, 3))):
        truncated = np.zeros((4, 1), np.bool_)
        truncated[list(rows)] = True
        kept = np.array([[10 * row + column] for row in rows], np.float32)
        nothing = np.zeros((4, 1), np.float32)
        parts.append(
            Rollout(
                observations=np.zeros((4, 1, 1), np.float32),
                actions=np.zeros((4, 1), np.int64),
                log_probabilities=nothing,
                values=nothing,
                rewards=nothing,
                terminated=np.zeros((4, 1), np.bool_),
                truncated=truncated,
                mask=np.ones((4, 1), np.bool_),
                last_observation=np.zeros((1, 1), np.float32),
                final_values=nothing,
                initial_state=(),
                weights_version=0,
                final_observations=kept,
            )
        )
    joined = join_rollouts(parts)
    assert joined.final_observations is not None
    assert joined.final_observations.ravel().tolist() == [1, 20, 31]
    assert np.argwhere(joined.is_cut).tolist() == [[0, 1], [2, 0], [3, 1]]
    bare = replace(parts[0], final_observations=None)
    assert join_rollouts([bare, parts[1]]).final_observations is None
