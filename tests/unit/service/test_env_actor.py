from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from raygym.core import Rollout
from raygym.service.env_actor import EnvActor
from raygym.service.sampler import SamplerConfig
from tests.support.tiny_envs import CountingEnv

T = 4
WEIGHTS = np.arange(3, dtype=np.float32)


class RecordingPolicy:
    """Notes what an EnvActor does with it; its gradient is the number of steps it saw."""

    def __init__(self, slot, random_state) -> None:
        self.slot = slot
        self.random_state = random_state
        self.weights_version = -1
        self.random = np.random.default_rng(0)
        self.vector = None
        self.rollouts: list[Rollout] = []
        self.may_learn = threading.Event()
        self.may_learn.set()

    def initial_state(self, batch):
        return ()

    def act(self, observations, state):
        return np.array([0]), np.zeros(1), np.zeros(1), ()

    def values(self, observations, state):
        return np.zeros(1)

    def set_weights(self, vector, version):
        self.vector, self.weights_version = vector, version

    def gradient(self, rollout):
        assert self.may_learn.wait(10)
        self.rollouts.append(rollout)
        steps = float(rollout.mask.size)
        return SimpleNamespace(vector=np.full(3, steps, np.float32), statistics={"steps": steps})


class Bench:
    def __init__(self) -> None:
        self.env = CountingEnv(("ok:100",), pace=threading.Semaphore(0))
        self.slots: list[int] = []
        self.policy = RecordingPolicy(0, None)
        self.actor = EnvActor(
            5, self.make_env, self.make_policy, SamplerConfig(rollout_steps=T), {"state": 1}
        )

    def make_env(self, slot: int) -> CountingEnv:
        self.slots.append(slot)
        return self.env

    def make_policy(self, slot, random_state) -> RecordingPolicy:
        self.policy = RecordingPolicy(slot, random_state)
        return self.policy


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.policy.may_learn.set()
    made.env.pace.release(1000)
    assert made.actor.close(timeout_s=10)


def test_factories_get_the_slot_and_the_random_state_and_nothing_starts_before_weights_come(
    bench: Bench,
):
    assert (bench.policy.slot, bench.policy.random_state) == (5, {"state": 1})
    assert bench.slots == []


def test_weights_in_and_gradients_out(bench: Bench):
    bench.env.pace.release(T)
    gradient, report = bench.actor.gradient((9, WEIGHTS), timeout_s=10)
    assert bench.policy.weights_version == 9
    assert bench.policy.vector is WEIGHTS
    assert gradient.tolist() == [4.0] * 3
    assert report.has_gradient
    assert report.statistics == {"steps": 4.0, "weights_lag": 0.0}
    assert report.sampler.steps == T
    assert bench.slots == [5]


def test_without_a_rollout_in_time_there_is_a_report_and_no_gradient(bench: Bench):
    gradient, report = bench.actor.gradient((0, WEIGHTS), timeout_s=0.0)
    assert gradient is None
    assert not report.has_gradient
    assert report.statistics == {}
    assert bench.policy.rollouts == []


def test_the_environment_goes_on_while_a_gradient_is_computed_and_all_of_it_is_learned_from(
    bench: Bench,
):
    bench.policy.may_learn.clear()
    bench.env.pace.release(T)
    answers = []
    learner = threading.Thread(
        target=lambda: answers.append(bench.actor.gradient((0, WEIGHTS), timeout_s=10))
    )
    learner.start()
    bench.env.pace.release(3 * T)
    while bench.env.count < 4 * T:  # three more rollouts are played with the learner held up
        assert learner.is_alive()
    bench.policy.may_learn.set()
    learner.join(10)
    steps = answers[0][1].statistics["steps"]
    while steps < 4 * T:
        _, report = bench.actor.gradient((1, WEIGHTS), timeout_s=10)
        assert report.has_gradient
        steps += report.statistics["steps"]
    assert steps == 4 * T
    assert len(bench.policy.rollouts) < 4


def test_closing_ends_the_environment(bench: Bench):
    bench.actor.gradient((0, WEIGHTS), timeout_s=0.0)
    bench.env.pace.release(1000)
    assert bench.actor.close(timeout_s=10)
    assert bench.env.is_closed
    assert bench.actor.close(timeout_s=10)
