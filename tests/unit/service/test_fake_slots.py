"""The scripted slots of the tests keep to the protocol themselves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.fake_slots import FakePolicy, FakeSlots


def test_a_slot_answers_its_reset_and_then_its_steps():
    slots = FakeSlots(2, episode_steps=2)
    slots.reset([0, 1], [7, None])
    first = slots.recv(at_least=2)
    assert first.is_first.all()
    assert first.observations.tolist() == [[0, 0, 0], [1, 0, 0]]
    slots.send([1], np.array([3]))
    step = slots.recv()
    assert step.slots.tolist() == [1]
    assert step.rewards.tolist() == [1.0]
    slots.send([1], np.array([3]))
    assert slots.recv().terminated.tolist() == [True]
    assert slots.seeds == [[7], [None]]
    assert slots.sent[1] == [3, 3]


def test_a_slow_slot_comes_later_and_a_timeout_gives_fewer():
    slots = FakeSlots(2, pace=lambda slot, _: 1 + 5 * slot)
    slots.reset([0, 1])
    assert slots.recv().slots.tolist() == [0]
    assert slots.recv(timeout_s=2.0).slots.tolist() == []
    assert slots.recv(timeout_s=5.0).slots.tolist() == [1]


def test_a_slot_that_is_over_must_be_reset():
    slots = FakeSlots(1, episode_steps=1)
    slots.reset([0])
    slots.recv()
    slots.send([0], [0])
    slots.recv()
    with pytest.raises(AssertionError, match="waits for a reset"):
        slots.send([0], [0])


def test_an_info_with_an_outcome_ends_the_episode():
    slots = FakeSlots(1, info=lambda _s, _e, step: {"outcome": "timeout"} if step else {})
    slots.reset([0])
    slots.recv()
    slots.send([0], [0])
    ready = slots.recv()
    assert (ready.truncated[0], ready.rewards[0]) == (True, 0.0)


def test_the_policy_counts_in_its_state():
    policy = FakePolicy()
    acted = policy.act(np.zeros((2, 3), np.float32), policy.initial_state(2))
    assert acted.state[0].tolist() == [[1.0], [1.0]]
