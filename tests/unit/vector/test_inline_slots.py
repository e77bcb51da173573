from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.supervision import Supervision
from tests.support.fake_store import FakeClock
from tests.support.slot_envs import ENDS, LOSES, RAISES, Made, SlotEnv


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def slots(made: Made) -> InlineSlots:
    return InlineSlots(made, 3)


def begun(slots: InlineSlots) -> InlineSlots:
    slots.reset([0, 1, 2], [7, 8, None])
    slots.recv(at_least=3)
    return slots


def test_a_reset_answers_with_first_observations(slots) -> None:
    slots.reset([2, 0], [5, None], {"level": 3})
    ready = slots.recv(at_least=2)
    assert ready.slots.tolist() == [2, 0]
    assert ready.observations[:, 0, 0, 0].tolist() == [20, 0]
    assert ready.is_first.tolist() == [True, True]
    assert ready.rewards.tolist() == [0.0, 0.0]
    assert [info["seed"] for info in ready.infos] == [5, None]
    assert ready.infos[0]["options"] == {"level": 3}


def test_all_are_stepped_in_one_call_and_handed_out_without_a_copy(slots) -> None:
    begun(slots).send(np.arange(3), np.array([0, ENDS, 0]))
    ready = slots.recv(at_least=3)
    assert ready.slots.tolist() == [0, 1, 2]
    assert ready.observations[:, 0, 0, 0].tolist() == [1, 11, 21]
    assert ready.rewards.tolist() == [1.0] * 3
    assert ready.terminated.tolist() == [False, True, False]
    assert not ready.is_first.any()
    slots.send([0], [0])
    assert ready.observations[0, 0, 0, 0] == 2, "it is a view of what the slots show"
    assert slots.recv().slots.tolist() == [0]


def test_resets_and_steps_come_back_together(slots) -> None:
    begun(slots)
    slots.reset([1])
    slots.send([2, 0], [0, 0])
    ready = slots.recv(at_least=3)
    assert ready.slots.tolist() == [1, 2, 0]
    assert ready.is_first.tolist() == [True, False, False]


def test_nothing_that_is_due_gives_no_rows(slots) -> None:
    assert slots.recv(at_least=3).slots.tolist() == []


@pytest.mark.parametrize(("action", "outcome"), [(RAISES, "env_failure"), (LOSES, "infra_failure")])
def test_a_step_that_raises_is_a_cut_row_with_the_last_observation(
    slots, made, action, outcome
) -> None:
    begun(slots).send([0, 1, 2], [0, action, 0])
    ready = slots.recv(at_least=3)
    assert ready.truncated.tolist() == [False, True, False]
    assert ready.rewards.tolist() == [1.0, 0.0, 1.0]
    assert ready.observations[1, 0, 0, 0] == 10
    assert ready.infos[1]["outcome"] == outcome
    assert slots.reports()[1].cuts == {outcome: 1}
    slots.reset([1])
    assert slots.recv().observations[0, 0, 0, 0] == 10
    assert len(made.envs) == (4 if action == RAISES else 3), "only what is not ours is made anew"
    assert made.envs[1].is_closed == (action == RAISES)


def test_an_outcome_that_an_environment_tells_is_counted(made) -> None:
    class Cut(SlotEnv):
        def step(self, action):
            told = {"outcome": "preempted", "reason": "the lease is gone"}
            return self._seen(), 0.0, False, True, told

    slots = InlineSlots(Cut, 1)
    slots.reset([0])
    slots.send([0], [0])
    slots.recv()
    assert slots.reports()[0].cuts == {"preempted": 1}
    assert slots.reports()[0].error == "the lease is gone"


def test_a_failed_reset_is_tried_again_after_growing_pauses() -> None:
    clock = FakeClock()
    made = Made(failing=3)
    waits = Supervision(first_retry_s=1.0, longest_retry_s=9.0, quarantine_after=3)
    slots = InlineSlots(made, 2, supervision=waits, clock=clock, sleep=clock.pass_s)
    slots.reset([0])
    assert slots.recv(timeout_s=0.5).slots.tolist() == []
    report = slots.reports()[0]
    assert (report.state, report.failures_in_a_row) == ("retrying", 1)
    assert report.error.endswith("its log ends: boo")
    assert slots.recv(timeout_s=2.5).slots.tolist() == []
    assert slots.reports()[0].failures_in_a_row == 3
    assert slots.reports()[0].state == "quarantined"
    before_s = clock()
    assert slots.recv().slots.tolist() == [0]
    assert clock() - before_s == pytest.approx(9.0, abs=0.1)
    assert slots.reports()[0].state == "running"


def test_what_another_try_would_not_help_is_raised(made) -> None:
    slots = InlineSlots(made, 2)
    made.refusals.append(ConfigError("no such game"))
    slots.reset([1])
    with pytest.raises(ConfigError, match="no such game"):
        slots.recv()
    made.refusals.append(RemoteFailedToStart("no memory"))
    with pytest.raises(RemoteFailedToStart):
        InlineSlots(made, 1)


def test_observations_that_are_no_arrays_come_as_objects() -> None:
    class Pair(SlotEnv):
        observation_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(9)] * 2)

        def _seen(self):
            return (self.slot, self.steps)

    slots = InlineSlots(Pair, 2)
    slots.reset([0, 1])
    assert slots.recv(at_least=2).observations.tolist() == [(0, 0), (1, 0)]


def test_closing_closes_all_once(slots, made) -> None:
    closed: list[int] = []
    slots = InlineSlots(made, 2, close_also=lambda: closed.append(1))
    slots.reset([0, 1])
    assert [picture.max() for picture in slots.render()] == [0, 1]
    slots.close()
    slots.close()
    assert closed == [1]
    assert all(env.is_closed for env in made.envs[1:])
    assert {report.state for report in slots.reports()} == {"closed"}
