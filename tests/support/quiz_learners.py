"""Learners that are taught the quiz of ``faulty_env``, each the same twice for one seed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from raygym.core import Float32Array, Rollout
from raygym.policies.a3c import A3CConfig, A3CPolicy, Gradient, SharedParameters
from raygym.policies.batched import BatchedConfig, BatchedLearner, BatchedPolicy
from raygym.policies.networks import NetworkConfig
from raygym.service.env_actor import EnvActor
from raygym.service.sampler import SamplerConfig
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.inline_slots import InlineSlots
from tests.support.cut_rollouts import without_mask
from tests.support.faulty_env import (
    ANSWERS,
    PICTURE,
    QUESTIONS,
    Kind,
    QuizEnv,
    question_of,
    quiz,
    right_answer,
    value_of,
)

GAMMA = 0.9
TESTED_EPISODES = 40
WAIT_S = 60.0

NETWORK = NetworkConfig(
    observation_shape=PICTURE,
    action_count=ANSWERS + 1,
    filter_count=8,
    conv_count=1,
    lstm_size=16,
)


@dataclass(frozen=True)
class Lesson:
    """What one training came to."""

    curve: tuple[float, ...]
    """Mean score of whole episodes, after each part of the training."""
    values: Float32Array
    """float32[QUESTIONS]: mean value of each question to the policy that was learned, NaN for
    one that it never came to."""
    weights: Float32Array
    """float32[N]."""
    failures: int
    """How many episodes failed in the training."""

    @property
    def final(self) -> float:
        """Mean score at the end."""
        return self.curve[-1]

    @property
    def area(self) -> float:
        """Mean score over the whole training: how soon it was learned."""
        return float(np.mean(self.curve))

    @property
    def value_error(self) -> float:
        """Root mean square between the values learned and those known."""
        errors = self.values - value_of(np.arange(QUESTIONS), GAMMA)
        return float(np.sqrt(np.mean(errors**2)))


Teach = Callable[..., Lesson]
"""Called with ``kind`` of failures or None, ``seed``, and ``has_mask``."""


class Acts(Protocol):
    """What is asked of a policy in an examination."""

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]: ...

    def act(self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]) -> Any: ...


def examine(policy: Acts, *, is_picture: bool = True) -> tuple[float, Float32Array]:
    """Plays episodes in which nothing fails.

    Returns:
        Their mean score, and the mean value of each question, float32[QUESTIONS].
    """
    env = QuizEnv(is_picture=is_picture)
    score, seen = 0.0, [[float("nan")] * 0 for _ in range(QUESTIONS)]
    for seed in range(TESTED_EPISODES):
        observation, _ = env.reset(seed=seed)
        state, is_over = policy.initial_state(1), False
        while not is_over:
            actions, _, values, state = policy.act(observation[None], state)[:4]
            seen[int(question_of(observation[None])[0])].append(float(values[0]))
            observation, reward, is_over, _, _ = env.step(int(actions[0]))
            score += reward
    means = [np.mean(one) if one else np.nan for one in seen]
    return score / TESTED_EPISODES, np.array(means, np.float32)


class KnowingPolicy:
    """Knows all answers and what each question is worth."""

    weights_version = 0

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns nothing: it needs no memory."""
        return ()

    def act(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Answers rightly."""
        certain = np.zeros(len(observations), np.float32)
        return right_answer(observations), certain, self.values(observations, state), ()

    def values(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Float32Array:
        """Returns the discounted sum of what is left to win, float32[B]."""
        return value_of(question_of(observations), GAMMA)


# A3C

A3C = A3CConfig(
    gamma=GAMMA, learning_rate=5e-3, entropy_weight=0.005, max_grad_norm=5.0, rollout_steps=40
)
A3C_UPDATES = 120
CHECKPOINTS = 8


class PacedPolicy(A3CPolicy):
    """Acts only with a permit, so that it is always known with which weights.

    Args:
        seed: Of the actions drawn.
        has_mask: False to learn from what failed as if it had not.
    """

    def __init__(self, seed: int, *, has_mask: bool) -> None:
        super().__init__(NETWORK, A3C, np.random.default_rng(seed))
        self.permits = threading.Semaphore(0)
        self._has_mask = has_mask

    def act(self, *args: Any, **settings: Any) -> Any:
        assert self.permits.acquire(timeout=WAIT_S), "nobody learned for too long"
        return super().act(*args, **settings)

    def gradient(self, rollout: Rollout) -> Gradient:
        return super().gradient(rollout if self._has_mask else without_mask(rollout))


def teach_a3c(kind: Kind | None, seed: int, *, has_mask: bool = True) -> Lesson:
    """Trains A3C through an EnvActor and its sampler, one rollout at a time."""
    policy = PacedPolicy(seed, has_mask=has_mask)
    env = quiz(kind, seed)

    def policy_of(slot: int, random_state: Mapping[str, Any] | None) -> PacedPolicy:
        return policy

    actor = EnvActor(
        0,
        lambda slot: env,
        policy_of,
        SamplerConfig(rollout_steps=A3C.rollout_steps, waits_for_learner=True),
    )
    shared = SharedParameters(NETWORK, A3C, seed=seed)
    examined = A3CPolicy(NETWORK, A3C, np.random.default_rng(seed))
    curve: list[float] = []
    values = np.empty(0, np.float32)
    version, weights = shared.weights()
    for update in range(1, A3C_UPDATES + 1):
        policy.set_weights(weights, version)
        policy.permits.release(A3C.rollout_steps)
        gradient, _ = actor.gradient((version, weights), timeout_s=WAIT_S)
        assert gradient is not None, f"no rollout within {WAIT_S:g} s"
        version, weights = shared.apply(gradient)
        if update % (A3C_UPDATES // CHECKPOINTS) == 0:
            examined.set_weights(weights, version)
            score, values = examine(examined)
            curve.append(score)
    _close(actor, policy)
    return Lesson(tuple(curve), values, weights, getattr(env, "failures", 0))


def _close(actor: EnvActor, policy: PacedPolicy) -> None:
    """Ends an actor whose sampler waits for a permit."""
    ending = threading.Thread(target=actor.close)
    ending.start()
    while ending.is_alive():
        policy.permits.release()
        ending.join(timeout=0.01)


# The batched learner

BATCHED_SLOTS = 6
BATCHED_UPDATES = 64
BATCHED = BatchedConfig(
    gamma=GAMMA,
    learning_rate=5e-3,
    anneal_steps=None,
    rollout_steps=20,
    minibatch_steps=120,
    epochs=2,
    clip=0.2,
)
FEED_FORWARD = NetworkConfig(
    observation_shape=(QUESTIONS + ANSWERS,),
    action_count=ANSWERS + 1,
    core="feedforward",
    hidden_size=16,
)


def teach_batched(
    kind: Kind | None, seed: int, *, has_mask: bool = True, network: NetworkConfig = FEED_FORWARD
) -> Lesson:
    """Trains the batched learner on the rollouts of a SlotSampler."""
    torch.set_num_threads(1)
    is_picture = len(network.observation_shape) == 3
    envs = [quiz(kind, 1000 * seed + n, is_picture=is_picture) for n in range(BATCHED_SLOTS)]
    learner = BatchedLearner(network, BATCHED, seed=seed)
    policy = BatchedPolicy(network, np.random.default_rng(seed))
    sampler = SlotSampler(
        InlineSlots(lambda slot: envs[slot], BATCHED_SLOTS),
        policy,
        rollout_steps=BATCHED.rollout_steps,
        seed=seed,
    )
    examined = BatchedPolicy(network, np.random.default_rng(seed))
    curve: list[float] = []
    values = np.empty(0, np.float32)
    for update in range(1, BATCHED_UPDATES + 1):
        policy.set_weights(learner.weights(), learner.version)
        rollout = sampler.collect(timeout_s=WAIT_S)
        assert rollout is not None, f"no rollout within {WAIT_S:g} s"
        learner.learn(rollout if has_mask else without_mask(rollout))
        if update % (BATCHED_UPDATES // CHECKPOINTS) == 0:
            examined.set_weights(learner.weights(), learner.version)
            score, values = examine(examined, is_picture=is_picture)
            curve.append(score)
    sampler.close()
    failures = sum(getattr(env, "failures", 0) for env in envs)
    return Lesson(tuple(curve), values, learner.weights(), failures)
