from __future__ import annotations

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from raygym.rllib.policy import ActingWeights, RLModulePolicy, RLModulePolicyFactory

OBSERVATIONS = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
DISCRETE = gymnasium.spaces.Discrete(4)
CONTINUOUS = gymnasium.spaces.Box(np.array([2.0, -8.0]), np.array([4.0, 8.0]), (2,), np.float32)
SEEN = np.random.default_rng(3).uniform(-1, 1, (5, 3)).astype(np.float32)


def factory(space: gymnasium.Space[Any] = DISCRETE, **model: Any) -> RLModulePolicyFactory:
    return RLModulePolicyFactory(
        spec=RLModuleSpec(
            module_class=DefaultPPOTorchRLModule,
            observation_space=OBSERVATIONS,
            action_space=space,
            inference_only=True,
            model_config=DefaultModelConfig(fcnet_hiddens=[8], **model),
        ),
        seed=5,
    )


def weights(policy: RLModulePolicy, **how: Any) -> ActingWeights:
    return ActingWeights(state=policy._module.get_state(), **how)


def test_log_probabilities_are_those_of_the_actions_under_the_inputs_kept() -> None:
    acted = factory()(0).act(SEEN, ())

    inputs = acted.extras[Columns.ACTION_DIST_INPUTS]
    shares = np.exp(inputs) / np.exp(inputs).sum(axis=1, keepdims=True)
    taken = shares[np.arange(5), acted.actions]
    assert acted.log_probabilities == pytest.approx(np.log(taken), abs=1e-5)
    assert acted.actions.dtype == np.int64
    assert acted.log_probabilities.dtype == np.float32


def test_actions_are_drawn_as_often_as_they_are_likely() -> None:
    policy = factory()(0)
    many = np.repeat(SEEN[:1], 20_000, axis=0)
    acted = policy.act(many, ())

    inputs = acted.extras[Columns.ACTION_DIST_INPUTS][0]
    likely = np.exp(inputs) / np.exp(inputs).sum()
    assert np.bincount(acted.actions, minlength=4) / 20_000 == pytest.approx(likely, abs=0.02)


def test_without_exploring_the_likeliest_action_is_taken() -> None:
    policy = factory()(0)
    policy.set_weights(weights(policy, is_exploring=False), 1)

    acted = policy.act(SEEN, ())

    assert np.array_equal(acted.actions, acted.extras[Columns.ACTION_DIST_INPUTS].argmax(axis=1))


def test_random_actions_lie_in_the_space() -> None:
    policy = factory(CONTINUOUS)(0)
    policy.set_weights(weights(policy, is_random=True), 1)

    assert all(CONTINUOUS.contains(action) for action in policy.act(SEEN, ()).actions)


def test_weights_carry_the_number_that_the_steps_keep() -> None:
    learner, actor = factory()(0), factory()(1)
    for parameter in learner._module.parameters():
        parameter.data += 0.5

    actor.set_weights(weights(learner, number=42), 3)

    assert actor.weights_version == 42
    for policy in (learner, actor):
        policy._is_exploring = False
    assert np.array_equal(
        actor.act(SEEN, ()).extras[Columns.ACTION_DIST_INPUTS],
        learner.act(SEEN, ()).extras[Columns.ACTION_DIST_INPUTS],
    )


def test_continuous_actions_are_stretched_over_the_space_and_kept_as_drawn() -> None:
    acted = factory(CONTINUOUS)(0).act(SEEN, ())

    raw = acted.extras["raw_actions"]
    stretched = CONTINUOUS.low + (raw + 1) * (CONTINUOUS.high - CONTINUOUS.low) / 2
    assert acted.actions == pytest.approx(np.clip(stretched, CONTINUOUS.low, CONTINUOUS.high))
    assert acted.actions.dtype == np.float32


def test_a_recurrent_policy_hands_its_state_on_and_keeps_it() -> None:
    policy = factory(use_lstm=True, lstm_cell_size=6, max_seq_len=4)(0)
    start = policy.initial_state(5)

    acted = policy.act(SEEN, start)
    again = policy.act(SEEN, acted.state)

    assert [part.shape for part in start] == [(5, 1, 6), (5, 1, 6)]
    assert all(np.array_equal(acted.extras[f"state_out_{n}"], s) for n, s in enumerate(acted.state))
    assert not np.array_equal(
        again.extras[Columns.ACTION_DIST_INPUTS], acted.extras[Columns.ACTION_DIST_INPUTS]
    )


def test_a_factory_pickles_and_gives_each_actor_its_own_randomness() -> None:
    made = pickle.loads(pickle.dumps(factory()))

    draws = [made(index).random.integers(1 << 30) for index in (0, 0, 1)]

    assert draws[0] == draws[1] != draws[2]
