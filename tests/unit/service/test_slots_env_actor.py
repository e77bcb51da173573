from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig, A3CPolicy, SharedParameters
from raygym.policies.networks import NetworkConfig
from raygym.service.slots_env_actor import SlotsActorConfig, SlotsEnvActor
from raygym.vector.slots import Ready, Slots
from tests.support.fake_slots import FakeSlots

NETWORK = NetworkConfig(observation_shape=(3,), action_count=4, core="feedforward", hidden_size=4)
CONFIG = A3CConfig(rollout_steps=4)


def fake_slots(_number: int) -> Slots:
    return FakeSlots(3, episode_steps=5)


class TickingSlots(FakeSlots):
    """Slots that make one tick for each ``recv``, whatever time it has."""

    def recv(self, *, at_least: int = 1, timeout_s: float | None = None) -> Ready:
        return super().recv(at_least=at_least, timeout_s=1.0)


def make_policy(number: int, _state: Mapping[str, Any] | None) -> A3CPolicy:
    return A3CPolicy(NETWORK, CONFIG, np.random.default_rng(number))


def make_actor(number: int = 0, slots_factory: Any = fake_slots) -> SlotsEnvActor:
    return SlotsEnvActor(number, slots_factory, 3, make_policy, SlotsActorConfig(rollout_steps=4))


@pytest.fixture
def shared() -> SharedParameters:
    return SharedParameters(NETWORK, CONFIG, seed=0)


def test_one_gradient_comes_of_the_steps_of_all_slots(shared: SharedParameters):
    actor = make_actor()
    vector, reports = actor.gradient(shared.weights(), timeout_s=30.0)
    assert vector is not None
    assert shared.apply(vector)[0] == 1
    assert reports[0].statistics["steps"] == 12
    assert [r.sampler.slot for r in reports] == [0, 1, 2]
    assert [r.sampler.steps for r in reports] == [4, 4, 4]
    assert [r.has_gradient for r in reports] == [True, False, False]


def test_the_second_actor_reports_slots_of_its_own(shared: SharedParameters):
    _, reports = make_actor(1).gradient(shared.weights(), timeout_s=30.0)
    assert [r.sampler.slot for r in reports] == [3, 4, 5]


def test_what_did_not_come_in_time_comes_with_the_next_call(shared: SharedParameters):
    actor = make_actor(slots_factory=lambda _number: TickingSlots(3))
    answers = [actor.gradient(shared.weights(), timeout_s=0.0) for _ in range(5)]
    assert [vector is not None for vector, _ in answers] == [False] * 4 + [True]
    assert [sum(r.sampler.steps for r in reports) for _, reports in answers] == [0, 3, 3, 3, 3]


def test_slots_that_cannot_be_made_are_fatal(shared: SharedParameters):
    def refuse(_number: int) -> Slots:
        raise ConfigError("no such game")

    actor = make_actor(slots_factory=refuse)
    vector, reports = actor.gradient(shared.weights())
    assert vector is None
    assert [(r.sampler.is_fatal, r.sampler.error) for r in reports] == [(True, "no such game")] * 3
    assert actor.close()


def test_closing_closes_the_slots(shared: SharedParameters):
    slots = FakeSlots(3)
    actor = make_actor(slots_factory=lambda _number: slots)
    assert actor.close()
    actor.gradient(shared.weights(), timeout_s=30.0)
    assert actor.close()
    assert slots.is_closed
