from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raygym.errors import ConfigError
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import NetworkConfig
from raygym.training.learner_actor import LearnerActor, Taken
from raygym.training.learner_sources import LearnerSetup, from_slots
from raygym.vector.slots import Slots
from tests.support.fake_slots import FakeSlots

DEADLINE_S = 60.0


def fake_slots(_rank: int) -> Slots:
    return FakeSlots(2, episode_steps=5)


SETUP = LearnerSetup(
    network=NetworkConfig(
        observation_shape=(3,), action_count=4, core="feedforward", hidden_size=4
    ),
    config=BatchedConfig(rollout_steps=4, epochs=1, minibatch_steps=8, normalises_input=False),
    make_source=from_slots(fake_slots),
    slots_per_learner=2,
    num_learners=1,
)
OF_TWO = replace(SETUP, num_learners=2)


@pytest.fixture
def spawn() -> Iterator[Callable[..., LearnerActor]]:
    made: list[LearnerActor] = []

    def spawn_learner(rank: int = 0, setup: LearnerSetup = SETUP, **more: Any) -> LearnerActor:
        made.append(LearnerActor(rank, setup, **more))
        return made[-1]

    yield spawn_learner
    for learner in made:
        assert learner.close(timeout_s=DEADLINE_S)


def take_until(learner: LearnerActor, is_enough: Callable[[Taken], bool]) -> list[Taken]:
    until_s = time.monotonic() + DEADLINE_S
    taken: list[Taken] = []
    while not taken or not is_enough(taken[-1]):
        assert time.monotonic() < until_s, taken[-1]
        taken.append(learner.take(timeout_s=1.0))
    return taken


def pair_that_learns(
    spawn: Callable[..., LearnerActor], kind: str, address: str
) -> list[LearnerActor]:
    """Returns two learners that have met and learned together."""
    pair = [spawn(rank, OF_TWO) for rank in range(2)]
    meeting = pair[0].host(kind, address)
    for learner in pair:
        learner.begin(meeting)
    take_until(pair[0], lambda taken: taken.version >= 2)
    return pair


def test_a_learner_waits_for_a_meeting_and_learns_until_it_is_closed(
    spawn: Callable[..., LearnerActor],
):
    learner = spawn()
    assert learner.take(timeout_s=0.0).status == "waiting"
    learner.begin(None)
    take_until(learner, lambda taken: taken.version >= 3)
    assert learner.close(timeout_s=DEADLINE_S)
    rest = learner.take(timeout_s=0.0)
    assert rest.status == "closed"


def test_reports_name_the_slots_of_the_learner_and_one_of_them_the_update(
    spawn: Callable[..., LearnerActor],
):
    learner = spawn()
    learner.begin(None)
    reports = [r for t in take_until(learner, lambda t: t.version >= 2) for r in t.reports]
    told = [r for r in reports if r.has_gradient]
    assert {r.sampler.slot for r in reports} == {0, 1}
    assert {r.sampler.slot for r in told} == {0}
    assert {"policy_loss", "seconds_collect", "seconds_average"} <= set(told[0].statistics)
    assert sum(r.sampler.steps for r in reports) == 8 * len(told)


def test_the_second_learner_tells_of_its_own_slots_and_of_no_update(
    spawn: Callable[..., LearnerActor],
):
    pair = [spawn(rank, OF_TWO) for rank in range(2)]
    meeting = pair[0].host("memory", "")
    for learner in pair:
        learner.begin(meeting)
    reports = [r for t in take_until(pair[1], lambda t: t.version >= 2) for r in t.reports]
    # A learner that is killed later leaves nothing behind.
    assert not Path(meeting.place).exists()
    assert {r.sampler.slot for r in reports} == {2, 3}
    assert not any(r.has_gradient for r in reports)


def test_who_is_left_says_so_and_goes_on_with_a_new_one_on_the_same_weights(
    spawn: Callable[..., LearnerActor],
):
    pair = pair_that_learns(spawn, "memory", "")
    assert pair[1].close(timeout_s=DEADLINE_S)
    # The first waits for a mean that will not come; a new meeting calls it away.
    newcomer = spawn(1, OF_TWO)
    state = pair[0].state()
    meeting = pair[0].host("memory", "")
    for learner in (pair[0], newcomer):
        learner.begin(meeting, state)
    goal = state["version"] + 2
    take_until(pair[0], lambda taken: taken.version >= goal)
    take_until(newcomer, lambda taken: taken.version >= goal)


def test_who_was_called_to_a_new_meeting_tells_of_the_old_loss_no_more(
    spawn: Callable[..., LearnerActor],
):
    pair = pair_that_learns(spawn, "gloo", "127.0.0.1")
    assert pair[0].close(timeout_s=DEADLINE_S)
    take_until(pair[1], lambda taken: taken.status == "lost")
    # Nobody else comes there for now.
    newcomer = spawn(0, OF_TWO)
    pair[1].begin(newcomer.host("gloo", "127.0.0.1"))
    assert pair[1].take(timeout_s=0.2).status == "waiting"


def test_a_setting_that_makes_no_sense_is_fatal_in_every_slot(
    spawn: Callable[..., LearnerActor],
):
    def refuse(_rank: int) -> Slots:
        raise ConfigError("no such game")

    learner = spawn(setup=replace(SETUP, make_source=from_slots(refuse)))
    learner.begin(None)
    taken = take_until(learner, lambda taken: taken.status == "failed")
    reports = [r.sampler for t in taken for r in t.reports]
    assert [(r.slot, r.state, r.is_fatal, r.error) for r in reports] == [
        (slot, "failed", True, "no such game") for slot in (0, 1)
    ]


def test_a_state_is_gone_on_from(spawn: Callable[..., LearnerActor]):
    first = spawn()
    first.begin(None)
    take_until(first, lambda taken: taken.version >= 2)
    first.close(timeout_s=DEADLINE_S)
    state = first.state()
    second = spawn(state=state)
    assert second.state()["version"] == state["version"]
    assert second.state()["env_steps"] == state["env_steps"] == 8 * state["version"]
