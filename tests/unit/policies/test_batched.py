from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from raygym.core import OUTCOMES, Rollout, Traces
from raygym.errors import ConfigError
from raygym.policies.batched import BatchedConfig, BatchedLearner, BatchedPolicy
from raygym.policies.networks import NetworkConfig

FEEDFORWARD = NetworkConfig(
    observation_shape=(8, 8, 2),
    action_count=3,
    core="feedforward",
    filter_count=4,
    conv_count=2,
    hidden_size=8,
)
LSTM = NetworkConfig(
    observation_shape=(8, 8, 2), action_count=3, filter_count=4, conv_count=2, lstm_size=8
)
BOTH = pytest.mark.parametrize("network", [FEEDFORWARD, LSTM], ids=["feedforward", "lstm"])
CONFIG = BatchedConfig(
    epochs=2, minibatch_steps=8, anneal_steps=None, normalises_input=False, learning_rate=0.01
)


def make_learner(network: NetworkConfig, config: BatchedConfig = CONFIG, **more) -> BatchedLearner:
    return BatchedLearner(network, config, seed=1, **more)


def make_rollout(
    learner: BatchedLearner, *, steps: int = 6, batch: int = 4, seed: int = 0, failed: float = 0.0
) -> Rollout:
    """What the learner's own policy says to random pictures, with random rewards and ends."""
    random = np.random.default_rng(seed)
    policy = BatchedPolicy(learner.network, random)
    observations = random.integers(0, 256, (steps, batch, 8, 8, 2), dtype=np.uint8)
    mask = random.random((steps, batch)) >= failed
    terminated = (random.random((steps, batch)) < 0.1) & mask
    truncated = ((random.random((steps, batch)) < 0.1) & ~terminated) | ~mask
    state = initial = policy.initial_state(batch)
    kept = []
    for t in range(steps):
        actions, log_probabilities, values, state = policy.act(observations[t], state)
        kept.append((actions, log_probabilities, values))
        is_over = terminated[t] | truncated[t]
        state = tuple(np.where(is_over[:, None], 0.0, s).astype(np.float32) for s in state)
    actions, log_probabilities, values = (np.stack(part) for part in zip(*kept, strict=True))
    return Rollout(
        observations=observations,
        actions=actions,
        log_probabilities=log_probabilities,
        values=values,
        rewards=random.normal(size=(steps, batch)).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        mask=mask,
        last_observation=random.integers(0, 256, (batch, 8, 8, 2), dtype=np.uint8),
        final_values=random.normal(size=(steps, batch)).astype(np.float32),
        initial_state=initial,
        weights_version=learner.version,
    )


def older(rollout: Rollout) -> Rollout:
    return replace(rollout, weights_version=rollout.weights_version - 1)


def halves(rollout: Rollout) -> list[Rollout]:
    count = rollout.mask.shape[1] // 2

    def part(columns: slice) -> Rollout:
        names = (
            *("observations", "actions", "log_probabilities", "values", "rewards"),
            *("terminated", "truncated", "mask", "final_values"),
        )
        return replace(
            rollout,
            **{name: getattr(rollout, name)[:, columns] for name in names},
            last_observation=rollout.last_observation[columns],
            initial_state=tuple(s[columns] for s in rollout.initial_state),
        )

    return [part(slice(None, count)), part(slice(count, None))]


@BOTH
def test_learning_makes_what_paid_likelier(network: NetworkConfig):
    learner = make_learner(network, replace(CONFIG, entropy_weight=0.0, epochs=4))
    policy = BatchedPolicy(learner.network, np.random.default_rng(0))
    pictures = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 2), dtype=np.uint8)
    for _ in range(15):
        rollout = make_rollout(learner, steps=4, batch=16)
        paid = (rollout.actions == 2).astype(np.float32)
        # Each step is an episode of its own.
        learner.learn(replace(rollout, rewards=paid, terminated=np.ones_like(rollout.mask)))
    actions, *_ = policy.act(pictures, policy.initial_state(64), is_greedy=True)
    assert (actions == 2).mean() > 0.9


@BOTH
@pytest.mark.parametrize("is_on_policy", [True, False])
def test_what_a_failed_step_says_changes_no_weight(network: NetworkConfig, is_on_policy: bool):
    one, other = make_learner(network), make_learner(network)
    rollout = make_rollout(one, failed=0.3)
    rollout = rollout if is_on_policy else older(rollout)
    failed = ~rollout.mask
    assert failed.any()
    rewards, actions = rollout.rewards.copy(), rollout.actions.copy()
    log_probabilities = rollout.log_probabilities.copy()
    finals = rollout.final_values.copy()
    rewards[failed], finals[failed] = np.nan, 1e9
    actions[failed], log_probabilities[failed] = 2 - actions[failed], -50.0
    changed = replace(
        rollout,
        rewards=rewards,
        actions=actions,
        log_probabilities=log_probabilities,
        final_values=finals,
    )
    one.learn(rollout)
    other.learn(changed)
    assert np.array_equal(one.weights(), other.weights())


def test_a_picture_that_a_failed_step_answered_changes_no_weight():
    one, other = make_learner(FEEDFORWARD), make_learner(FEEDFORWARD)
    rollout = make_rollout(one, failed=0.3)
    observations = rollout.observations.copy()
    observations[~rollout.mask] = 255
    one.learn(rollout)
    other.learn(replace(rollout, observations=observations))
    assert np.array_equal(one.weights(), other.weights())


def test_a_reward_that_counts_does_change_the_weights():
    one, other = make_learner(FEEDFORWARD), make_learner(FEEDFORWARD)
    rollout = make_rollout(one, failed=0.3)
    one.learn(rollout)
    other.learn(replace(rollout, rewards=np.where(rollout.mask, rollout.rewards + 1, 0)))
    assert not np.array_equal(one.weights(), other.weights())


@BOTH
def test_a_rollout_that_failed_everywhere_moves_nothing(network: NetworkConfig):
    learner = make_learner(network)
    before = learner.weights()
    statistics = learner.learn(make_rollout(learner, failed=1.0))
    assert np.array_equal(learner.weights(), before)
    assert statistics["refused"] == 0
    assert np.isfinite(list(statistics.values())).all()


@BOTH
def test_old_data_of_the_same_weights_teach_what_new_data_teach(network: NetworkConfig):
    new, old = make_learner(network), make_learner(network)
    rollout = make_rollout(new)
    new.learn(rollout)
    statistics = old.learn(older(rollout))
    assert np.allclose(new.weights(), old.weights(), atol=2e-4)
    assert statistics["ratio"] == pytest.approx(1.0, abs=1e-4)


def test_versions_of_single_steps_decide_what_is_old():
    learner = make_learner(FEEDFORWARD)
    rollout = make_rollout(learner)
    shape = rollout.mask.shape
    numbers = np.zeros(shape, np.int32)
    traces = Traces(
        outcomes=np.zeros(shape, np.uint8),
        weights_versions=np.zeros(shape, np.int64),
        lag_ms=np.zeros((*shape, 4), np.float32),
        slots=np.arange(shape[1]),
        episodes=np.zeros(shape, np.int64),
        remotes=numbers,
        leases=numbers,
    )
    assert OUTCOMES[0] == "ok"
    traces.weights_versions[2, 1] = -1
    shifted = rollout.log_probabilities - np.float32(np.log(2.0))
    statistics = learner.learn(replace(rollout, traces=traces, log_probabilities=shifted))
    assert statistics["ratio"] == pytest.approx(2.0, rel=1e-3)


def test_a_gradient_that_is_no_number_is_refused_and_counted():
    learner = make_learner(FEEDFORWARD)
    rollout = make_rollout(learner)
    before = learner.weights()
    rewards = rollout.rewards.copy()
    rewards[0, 0] = np.inf
    statistics = learner.learn(replace(rollout, rewards=rewards))
    assert statistics["refused"] == learner.refused_count > 0
    assert np.array_equal(learner.weights(), before)
    learner.learn(make_rollout(learner))
    assert np.isfinite(learner.weights()).all()


def test_the_first_rollout_sets_the_scale_of_inputs_and_teaches_nothing_else():
    learner = make_learner(FEEDFORWARD, replace(CONFIG, normalises_input=True))
    rollout = make_rollout(learner)
    weights = learner.state()["network"]
    statistics = learner.learn(rollout)
    assert statistics["updates"] == 0
    seen = rollout.observations.astype(np.float64)
    assert learner.network.input_mean.item() == pytest.approx(seen.mean(), rel=1e-5)
    assert 1 / learner.network.input_scale.item() == pytest.approx(seen.std(), rel=1e-3)
    after = learner.state()["network"]
    assert all(torch.equal(after[k], v) for k, v in weights.items() if "input" not in k)
    assert learner.learn(make_rollout(learner))["updates"] > 0


def test_the_step_size_falls_in_a_straight_line_and_stays():
    config = BatchedConfig(
        learning_rate=1.0, final_learning_rate=0.2, anneal_steps=100, final_entropy_weight=0.0
    )
    assert config.annealed(0) == (1.0, 0.01)
    assert config.annealed(50) == pytest.approx((0.6, 0.005))
    assert config.annealed(1000) == pytest.approx((0.2, 0.0))
    assert replace(config, anneal_steps=None).annealed(1000) == (1.0, 0.01)


@BOTH
def test_a_learner_goes_on_from_its_state_as_if_nothing_had_been(network: NetworkConfig):
    config = replace(CONFIG, minibatch_steps=1000)
    one, other = make_learner(network, config), make_learner(network, config)
    one.learn(make_rollout(one))
    other.restore(one.state())
    assert (other.version, other.env_steps) == (1, 24)
    rollout = make_rollout(one, seed=5)
    one.learn(rollout)
    other.learn(rollout)
    # The order of minibatches is a learner's own; here is one minibatch, in another order.
    assert np.allclose(one.weights(), other.weights(), atol=1e-5)


def run_together(learners: list[BatchedLearner], rollouts: list[Rollout]) -> None:
    """Has learners learn in step, each in a thread, with means through a barrier."""
    barrier = threading.Barrier(len(learners))
    held: list[torch.Tensor | None] = [None] * len(learners)

    def averaged(rank: int):
        def average(vector: torch.Tensor) -> None:
            held[rank] = vector.clone()
            barrier.wait(30)
            mean = torch.stack([h for h in held if h is not None]).mean(0)
            barrier.wait(30)
            vector.copy_(mean)

        return average

    threads = [
        threading.Thread(target=learner.learn, args=(part,), kwargs={"average": averaged(rank)})
        for rank, (learner, part) in enumerate(zip(learners, rollouts, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


@BOTH
def test_two_learners_take_the_step_of_one_that_has_all_slots_whoever_failed(
    network: NetworkConfig,
):
    config = replace(CONFIG, minibatch_steps=1000, epochs=1)
    alone = make_learner(network, config)
    pair = [make_learner(network, config, rank=r, num_learners=2) for r in range(2)]
    rollout = make_rollout(alone, batch=8, failed=0.3)
    alone.learn(rollout)
    run_together(pair, halves(rollout))
    assert np.array_equal(pair[0].weights(), pair[1].weights())
    # A mean over both, by the steps that count, is the mean over all.
    assert np.allclose(pair[0].weights(), alone.weights(), atol=2e-5)
    assert pair[0].env_steps == alone.env_steps


@BOTH
def test_a_policy_with_a_network_of_its_own_acts_as_the_learners(network: NetworkConfig):
    learner = make_learner(network)
    shared = BatchedPolicy(learner.network, np.random.default_rng(0))
    own = BatchedPolicy(network, np.random.default_rng(0))
    learner.learn(make_rollout(learner))
    own.set_weights(learner.weights(), 7)
    assert own.weights_version == 7
    pictures = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 2), dtype=np.uint8)
    state = own.initial_state(4)
    answers = own.act(pictures, state)[:3], shared.act(pictures, state)[:3]
    for ours, theirs in zip(*answers, strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(own.values(pictures, state), shared.values(pictures, state))


def test_a_policy_on_a_learners_network_takes_no_weights():
    learner = make_learner(FEEDFORWARD)
    policy = BatchedPolicy(learner.network, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="always the newest"):
        policy.set_weights(learner.weights(), 1)


def test_a_setting_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"BatchedConfig\.clip"):
        BatchedConfig(clip=0.0)
