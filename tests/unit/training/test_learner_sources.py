from __future__ import annotations

import numpy as np
import pytest

from raygym.errors import ConfigError
from raygym.policies.batched import BatchedConfig, BatchedLearner
from raygym.policies.networks import NetworkConfig
from raygym.training.learner_sources import (
    LearnerSetup,
    Seat,
    from_service,
    from_slots,
    make_batched_policy,
)
from tests.support.fake_slots import FakeSlots

NETWORK = NetworkConfig(observation_shape=(3,), action_count=4, core="feedforward", hidden_size=4)
SETUP = LearnerSetup(
    network=NETWORK,
    config=BatchedConfig(rollout_steps=4, epochs=1, minibatch_steps=8, normalises_input=False),
    make_source=from_slots(lambda _rank: FakeSlots(2)),
    slots_per_learner=2,
)


def seat(rank: int = 0, **more) -> Seat:
    learner = BatchedLearner(NETWORK, SETUP.config, seed=SETUP.seed, rank=rank)
    return Seat(setup=SETUP, rank=rank, learner=learner, **more)


def test_slots_of_ones_own_are_always_played_with_the_newest_weights():
    own = seat(rank=1)
    source = SETUP.make_source(own)
    for version in range(3):
        rollout = source.collect(timeout_s=30.0)
        assert rollout is not None
        assert rollout.traces is not None
        assert (rollout.traces.weights_versions == version).all()
        assert rollout.traces.slots.tolist() == [2, 3]
        assert own.learner.learn(rollout)["ratio"] == 1.0
        source.note_update(own.learner)
    source.close()


def test_the_random_numbers_of_a_learner_go_on_where_they_were():
    random = seat().random()
    random.random(3)
    again = seat(random_state=random.bit_generator.state).random()
    assert again.random() == random.random()
    assert seat(rank=1).random().random() != seat(rank=0).random().random()


def test_a_policy_of_a_service_starts_with_the_first_weights_of_the_learners():
    policy = make_batched_policy(NETWORK, SETUP.seed, 0, 5)
    observations = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    other = seat(rank=1).learner
    expected = make_batched_policy(NETWORK, SETUP.seed, 1, 0)
    expected.set_weights(other.weights(), 1)
    assert np.array_equal(policy.values(observations, ()), expected.values(observations, ()))


def test_slots_that_cannot_be_dealt_out_evenly_are_refused():
    make_source = from_service("CartPole-v1", slots_per_actor=3)
    with pytest.raises(ConfigError, match="2 slots of a learner cannot be dealt out to actors of"):
        make_source(seat())
