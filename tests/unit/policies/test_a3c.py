from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from raygym.core import Rollout
from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig, A3CPolicy, SharedParameters, a3c_loss
from raygym.policies.networks import NetworkConfig

NETWORK = NetworkConfig(observation_shape=(12, 12, 1), action_count=3, filter_count=4, lstm_size=8)
CONFIG = A3CConfig(learning_rate=0.01)


def make_policy(seed: int = 0, config: A3CConfig = CONFIG) -> A3CPolicy:
    policy = A3CPolicy(NETWORK, config, np.random.default_rng(seed))
    _, weights = SharedParameters(NETWORK, config, seed=seed).weights()
    policy.set_weights(weights, 0)
    return policy


def make_rollout(steps: int = 6, batch: int = 1, seed: int = 0) -> Rollout:
    random = np.random.default_rng(seed)
    return Rollout(
        observations=random.integers(0, 256, (steps, batch, 12, 12, 1), dtype=np.uint8),
        actions=random.integers(0, 3, (steps, batch)),
        log_probabilities=np.zeros((steps, batch), np.float32),
        values=random.normal(size=(steps, batch)).astype(np.float32),
        rewards=random.normal(size=(steps, batch)).astype(np.float32),
        terminated=np.zeros((steps, batch), bool),
        truncated=np.zeros((steps, batch), bool),
        mask=np.ones((steps, batch), bool),
        last_observation=random.integers(0, 256, (batch, 12, 12, 1), dtype=np.uint8),
        final_values=np.zeros((steps, batch), np.float32),
        initial_state=(np.zeros((batch, 8), np.float32), np.zeros((batch, 8), np.float32)),
        weights_version=0,
    )


def test_the_loss_of_a_uniform_policy_matches_a_hand_computed_case():
    loss = a3c_loss(
        torch.zeros(2, 1, 4),
        torch.tensor([[1.0], [3.0]]),
        actions=torch.tensor([[0], [2]]),
        advantages=torch.tensor([[2.0], [-1.0]]),
        returns=torch.tensor([[2.0], [1.0]]),
        mask=torch.ones(2, 1, dtype=torch.bool),
        config=A3CConfig(),
    )
    assert loss.policy.item() == pytest.approx(math.log(4) * (2 - 1))
    assert loss.value.item() == pytest.approx(0.5 * (1 + 4))
    assert loss.entropy.item() == pytest.approx(2 * math.log(4))
    assert loss.total.item() == pytest.approx(math.log(4) + 0.5 * 2.5 - 0.01 * 2 * math.log(4))


def test_a_masked_step_carries_no_gradient():
    logits = torch.randn(3, 1, 4, requires_grad=True)
    values = torch.randn(3, 1, requires_grad=True)
    mask = torch.tensor([[True], [False], [True]])
    a3c_loss(
        logits,
        values,
        actions=torch.tensor([[0], [1], [2]]),
        advantages=torch.ones(3, 1),
        returns=torch.full((3, 1), 5.0),
        mask=mask,
        config=CONFIG,
    ).total.backward()
    assert logits.grad is not None
    assert values.grad is not None
    assert logits.grad[1].abs().sum() == 0
    assert values.grad[1].abs().sum() == 0
    assert logits.grad[0].abs().sum() > 0
    assert values.grad[2].abs().sum() > 0


def test_a_rollout_of_failed_steps_alone_gives_a_gradient_of_zero():
    rollout = replace(make_rollout(), mask=np.zeros((6, 1), bool))
    gradient = make_policy().gradient(rollout)
    assert not gradient.vector.any()
    assert gradient.statistics["steps"] == 0


def test_what_follows_a_failed_step_of_one_slot_does_not_depend_on_its_reward():
    rollout = make_rollout()
    rollout.mask[3] = False
    rollout.truncated[3] = True
    changed = replace(rollout, rewards=rollout.rewards.copy())
    changed.rewards[3] = 1e6
    policy = make_policy()
    assert np.array_equal(policy.gradient(rollout).vector, policy.gradient(changed).vector)


def test_the_gradient_is_cut_to_the_longest_allowed_and_reports_its_norm_before():
    rollout = make_rollout()
    free = make_policy(config=replace(CONFIG, max_grad_norm=1e9)).gradient(rollout)
    cut = make_policy(config=replace(CONFIG, max_grad_norm=0.5)).gradient(rollout)
    norm = np.linalg.norm(free.vector)
    assert norm > 0.5
    assert np.linalg.norm(cut.vector) == pytest.approx(0.5, rel=1e-4)
    assert cut.statistics["grad_global_norm"] == pytest.approx(norm, rel=1e-4)
    assert np.allclose(cut.vector, free.vector * 0.5 / norm, atol=1e-6)


def test_slots_side_by_side_give_the_sum_of_their_gradients():
    config = replace(CONFIG, max_grad_norm=1e9)
    both = make_rollout(batch=2)
    policy = make_policy(config=config)

    def only(slot: int) -> Rollout:
        parts = {
            name: getattr(both, name)[:, slot : slot + 1]
            for name in (
                *("observations", "actions", "log_probabilities", "values", "rewards"),
                *("terminated", "truncated", "mask", "final_values"),
            )
        }
        return replace(
            both,
            **parts,
            last_observation=both.last_observation[slot : slot + 1],
            initial_state=tuple(s[slot : slot + 1] for s in both.initial_state),
        )

    separate = policy.gradient(only(0)).vector + policy.gradient(only(1)).vector
    assert np.allclose(policy.gradient(both).vector, separate, atol=1e-4)


def test_the_state_before_an_episode_that_starts_inside_the_rollout_is_forgotten():
    rollout = make_rollout()
    rollout.terminated[2] = True
    # Before the end, no step counts; what is left is the second episode alone.
    rollout.mask[:2] = False
    rollout.mask[2] = False
    other = replace(
        rollout, initial_state=(np.ones((1, 8), np.float32), np.ones((1, 8), np.float32))
    )
    policy = make_policy()
    assert np.allclose(policy.gradient(rollout).vector, policy.gradient(other).vector)


def test_actions_are_those_of_the_seed():
    observations = make_rollout(steps=40).observations[:, 0]

    def play(seed: int) -> list[int]:
        policy = make_policy()
        policy.random = np.random.default_rng(seed)
        state = policy.initial_state(1)
        actions = []
        for observation in observations:
            action, _, _, state = policy.act(observation[None], state)
            actions.append(int(action[0]))
        return actions

    assert play(5) == play(5)
    assert play(5) != play(6)
    assert set(play(5)) == {0, 1, 2}


def test_the_recorded_log_probability_is_that_of_the_action_taken():
    policy = make_policy()
    observations = make_rollout(batch=5).observations[0]
    actions, log_probabilities, values, _ = policy.act(observations, policy.initial_state(5))
    assert actions.shape == log_probabilities.shape == values.shape == (5,)
    assert np.allclose(np.exp(log_probabilities), 1 / 3, atol=0.02)


def test_a_greedy_policy_draws_nothing():
    policy = make_policy()
    before = policy.random.bit_generator.state
    observations = make_rollout(batch=5).observations[0]
    first = policy.act(observations, policy.initial_state(5), is_greedy=True)[0]
    assert np.array_equal(
        first, policy.act(observations, policy.initial_state(5), is_greedy=True)[0]
    )
    assert policy.random.bit_generator.state == before


def test_values_equal_those_of_acting_and_draw_nothing():
    policy = make_policy()
    observations = make_rollout(batch=2).observations[0]
    before = policy.random.bit_generator.state
    values = policy.values(observations, policy.initial_state(2))
    assert policy.random.bit_generator.state == before
    assert np.allclose(values, policy.act(observations, policy.initial_state(2))[2])


def test_acting_goes_on_in_another_thread_while_gradients_are_computed():
    policy = make_policy()
    observation = make_rollout().observations[0]
    failures: list[BaseException] = []
    is_over = threading.Event()

    def act() -> None:
        state = policy.initial_state(1)
        try:
            while not is_over.is_set():
                _, _, values, state = policy.act(observation, state)
                assert np.isfinite(values).all()
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            failures.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    for seed in range(20):
        version, weights = shared.apply(policy.gradient(make_rollout(seed=seed)).vector)
        policy.set_weights(weights, version)
    is_over.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert failures == []
    assert policy.weights_version == 20


def test_gradients_lead_to_actions_that_were_better_than_expected():
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    policy = make_policy()
    rollout = replace(
        make_rollout(steps=20),
        rewards=np.zeros((20, 1), np.float32),
        values=np.zeros((20, 1), np.float32),
        terminated=np.ones((20, 1), bool),
    )
    rollout.rewards[rollout.actions == 1] = 1.0
    rollout.rewards[rollout.actions != 1] = -1.0
    for _ in range(60):
        version, weights = shared.apply(policy.gradient(rollout).vector)
        policy.set_weights(weights, version)
    chosen = [
        int(policy.act(o, policy.initial_state(1), is_greedy=True)[0][0])
        for o in rollout.observations
    ]
    assert chosen == [1] * 20


def test_shared_parameters_count_gradients_and_ignore_those_that_are_not_finite():
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    _, before = shared.weights()
    bad = np.zeros_like(before)
    bad[3] = np.nan
    version, after = shared.apply(bad)
    assert version == 0
    assert np.array_equal(before, after)
    assert shared.refused_count == 1
    version, after = shared.apply(np.ones_like(before))
    assert version == 1
    # Adam's first step is the learning rate, whatever the gradient.
    assert np.allclose(before - after, 0.01, atol=1e-5)


def test_gradients_are_applied_as_adam_does():
    random = np.random.default_rng(0)
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    expected = torch.nn.Parameter(torch.from_numpy(shared.weights()[1]))
    adam = torch.optim.Adam([expected], lr=CONFIG.learning_rate)
    for scale in (1.0, 1e-3, 30.0, 0.0, 1.0):
        gradient = (scale * random.normal(size=expected.shape)).astype(np.float32)
        _, weights = shared.apply(gradient)
        expected.grad = torch.from_numpy(gradient)
        adam.step()
    assert np.allclose(weights, expected.detach().numpy(), atol=1e-6)


def test_the_step_size_falls_with_every_gradient_until_its_end():
    config = replace(CONFIG, learning_rate=0.01, final_learning_rate=0.002, anneal_updates=4)
    shared = SharedParameters(NETWORK, config, seed=0)
    _, before = shared.weights()
    steps = []
    for _ in range(6):
        # Along the same gradient again and again, each of Adam's steps is the step size.
        _, after = shared.apply(np.ones_like(before))
        steps.append(float((before - after).mean()))
        before = after
    assert steps == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002, 0.002], rel=1e-3)


def test_the_entropy_bonus_is_gone_at_the_end_of_its_fall():
    rollout = make_rollout()
    config = replace(CONFIG, entropy_weight=0.5, anneal_updates=10)
    falling = make_policy(config=config)
    without = make_policy(config=replace(CONFIG, entropy_weight=0.0))
    _, weights = SharedParameters(NETWORK, config, seed=0).weights()
    without.set_weights(weights, 0)
    falling.set_weights(weights, 9)
    assert not np.allclose(falling.gradient(rollout).vector, without.gradient(rollout).vector)
    falling.set_weights(weights, 10)
    assert np.array_equal(falling.gradient(rollout).vector, without.gradient(rollout).vector)


def test_weights_handed_out_do_not_change_afterwards():
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    _, weights = shared.weights()
    copy = weights.copy()
    shared.apply(np.ones_like(weights))
    assert np.array_equal(weights, copy)


def test_restored_parameters_go_on_exactly_like_the_ones_saved():
    random = np.random.default_rng(0)
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    size = shared.weights()[1].size
    shared.apply(random.normal(size=size).astype(np.float32))
    state = shared.state()
    other = SharedParameters(NETWORK, CONFIG, seed=99)
    version, weights = other.restore(state)
    assert version == 1
    assert np.array_equal(weights, shared.weights()[1])
    following = random.normal(size=size).astype(np.float32)
    assert np.array_equal(shared.apply(following)[1], other.apply(following)[1])


def test_a_saved_state_does_not_change_with_later_gradients():
    shared = SharedParameters(NETWORK, CONFIG, seed=0)
    shared.apply(np.ones_like(shared.weights()[1]))
    state = shared.state()
    before = shared.weights()[1]
    shared.apply(np.ones_like(before))
    assert np.array_equal(SharedParameters(NETWORK, CONFIG, seed=1).restore(state)[1], before)


def test_the_seed_decides_the_first_weights():
    first = SharedParameters(NETWORK, CONFIG, seed=1).weights()[1]
    assert np.array_equal(first, SharedParameters(NETWORK, CONFIG, seed=1).weights()[1])
    assert not np.array_equal(first, SharedParameters(NETWORK, CONFIG, seed=2).weights()[1])


def test_weights_and_gradients_of_another_network_are_refused():
    policy = make_policy()
    _, weights = SharedParameters(NETWORK, CONFIG, seed=0).weights()
    with pytest.raises(ConfigError, match="another network"):
        policy.set_weights(np.append(weights, np.float32(0)), 1)
    with pytest.raises(ConfigError, match="another network"):
        SharedParameters(NETWORK, CONFIG, seed=0).apply(weights[:-1])


@pytest.mark.parametrize(
    ("field", "value"), [("gamma", 1.5), ("learning_rate", -1.0), ("rollout_steps", 0)]
)
def test_constants_out_of_range_are_refused_by_name(field: str, value: float):
    with pytest.raises(ConfigError, match=f"A3CConfig.{field}"):
        A3CConfig(**{field: value})
