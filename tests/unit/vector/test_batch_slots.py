from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest

from raygym.core import Remote
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.vector.batch_slots import BatchSlots
from raygym.vector.supervision import Supervision
from tests.support.fake_store import FakeClock

REMOTE = Remote(id="r-2", runtime="gym-core", vnc=None, rewarder=None)


class FakeBatch:
    """Notes what it is asked; its observations say which environment and which step."""

    num_envs = 3
    single_observation_space = gymnasium.spaces.Box(0, 255, (2,), np.uint8)
    single_action_space = gymnasium.spaces.Discrete(3)
    remotes_started, remotes_lost, remote_id, remote = 2, 1, "r-2", REMOTE

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refusals: list[Exception] = []
        self.failing: dict[int, int] = {}
        self.is_closed = False

    def reset(
        self, envs: Sequence[int], seeds: Sequence[int | None], options: Mapping[str, Any] | None
    ):
        self.asked.append(("reset", list(envs), list(seeds), options))
        if self.refusals:
            raise self.refusals.pop(0)
        failed = [env for env in envs if self.failing.get(env, 0)]
        for env in failed:
            self.failing[env] -= 1
        return self._rows(envs, 0), {env: RemoteFailedToStart(f"{env} raised") for env in failed}

    def step(self, envs: Sequence[int], actions: Sequence[Any]):
        self.asked.append(("step", list(envs), [int(action) for action in actions]))
        observations, rewards, terminated, truncated, infos = self._rows(envs, 1)
        for row, action in enumerate(actions):
            if action == 2:
                truncated[row] = True
                infos[row] = {"outcome": "infra_failure", "reason": "gone"}
        return observations, rewards + 1, terminated, truncated, infos

    def close(self) -> None:
        self.is_closed = True

    def _rows(self, envs: Sequence[int], step: int):
        count = len(envs)
        observations = np.array([[env, step] for env in envs], np.uint8)
        no = np.zeros(count, np.bool_)
        return observations, np.zeros(count), no, no.copy(), [{"env": env} for env in envs]


@pytest.fixture
def batch() -> FakeBatch:
    return FakeBatch()


@pytest.fixture
def slots(batch) -> BatchSlots:
    return BatchSlots(batch)


def test_a_step_of_all_is_one_message(slots, batch) -> None:
    slots.reset([0, 1, 2], [7, 8, None])
    assert slots.recv(at_least=3).is_first.all()
    slots.send(np.arange(2), np.array([0, 1]))
    slots.send([2], [0])
    ready = slots.recv(at_least=3)
    assert ready.slots.tolist() == [0, 1, 2]
    assert ready.rewards.tolist() == [1.0, 1.0, 1.0]
    assert batch.asked == [
        ("reset", [0, 1, 2], [7, 8, None], None),
        ("step", [0, 1, 2], [0, 1, 0]),
    ]


def test_steps_and_resets_come_back_together(slots, batch) -> None:
    slots.reset([1], [4], {"level": 1})
    slots.send([0, 2], [0, 0])
    ready = slots.recv(at_least=3)
    assert ready.slots.tolist() == [0, 2, 1]
    assert ready.is_first.tolist() == [False, False, True]
    assert ready.observations.tolist() == [[0, 1], [2, 1], [1, 0]]
    assert [info["env"] for info in ready.infos] == [0, 2, 1]
    assert batch.asked[1] == ("reset", [1], [4], {"level": 1})


def test_a_failed_step_is_counted(slots) -> None:
    slots.send([0, 1], [0, 2])
    assert slots.recv(at_least=2).truncated.tolist() == [False, True]
    assert slots.reports()[1].cuts == {"infra_failure": 1}
    assert slots.reports()[1].error == "gone"


def test_those_that_fail_to_begin_are_tried_again_after_a_pause(batch) -> None:
    clock = FakeClock()
    waits = Supervision(first_retry_s=2.0)
    slots = BatchSlots(batch, supervision=waits, clock=clock, sleep=clock.pass_s)
    batch.failing = {1: 1}
    slots.reset([0, 1], [5, 6])
    assert slots.recv().slots.tolist() == [0]
    assert slots.reports()[1].state == "retrying"
    assert slots.recv(timeout_s=1.0).slots.tolist() == []
    ready = slots.recv(timeout_s=5.0)
    assert ready.slots.tolist() == [1]
    assert batch.asked[-1] == ("reset", [1], [6], None)
    assert slots.reports()[1].state == "running"


def test_a_remote_that_does_not_start_keeps_all_waiting(batch) -> None:
    clock = FakeClock()
    slots = BatchSlots(batch, clock=clock, sleep=clock.pass_s)
    batch.refusals = [RemoteFailedToStart("no memory")] * 2
    slots.reset([0, 1])
    assert sorted(slots.recv(at_least=2).slots.tolist()) == [0, 1]
    assert [asked[0] for asked in batch.asked] == ["reset"] * 3


def test_what_another_try_would_not_help_is_raised(slots, batch) -> None:
    batch.refusals = [ConfigError("no such game")]
    slots.reset([0])
    with pytest.raises(ConfigError, match="no such game"):
        slots.recv()


def test_nothing_that_is_due_gives_no_rows(slots) -> None:
    ready = slots.recv(at_least=3)
    assert ready.slots.tolist() == []
    assert ready.observations.shape == (0, 2)


def test_remotes_are_counted_once_and_named_in_each_report(slots, batch) -> None:
    reports = slots.reports()
    assert [report.remotes_started for report in reports] == [2, 0, 0]
    assert [report.remotes_lost for report in reports] == [1, 0, 0]
    assert {report.remote_id for report in reports} == {"r-2"}
    assert all(report.remote is REMOTE for report in reports)
    slots.close()
    slots.close()
    assert batch.is_closed
