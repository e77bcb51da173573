from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorLost, ActorReport
from raygym.training import learners
from raygym.training.learner_sources import from_service, from_slots
from raygym.training.learners import LearnerGroup
from tests.support.cart_slots import SLOTS, cart_setup, service_slots, slots_that_hang_once

DEADLINE_S = 240.0
POLL_S = 0.25
RANDOM_SCORE = 22.0
"""What evenly drawn actions come to; the learners reach 400."""
GOOD_SCORE = 120.0

Answer = ActorReport | ActorLost


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_running(6, has_dashboard=False):
        yield


@pytest.fixture
def start() -> Iterator[Callable[..., LearnerGroup]]:
    groups: list[LearnerGroup] = []

    def start_group(*arguments: Any, **options: Any) -> LearnerGroup:
        groups.append(LearnerGroup(*arguments, **options))
        return groups[-1]

    yield start_group
    for group in groups:
        group.close()


def poll_until(group: LearnerGroup, is_enough: Callable[[list[Answer]], bool]) -> list[Answer]:
    answers: list[Answer] = []
    until_s = time.monotonic() + DEADLINE_S
    while not is_enough(answers):
        assert time.monotonic() < until_s, answers[-3:]
        answers += group.poll(timeout_s=POLL_S)
    return answers


def reports(answers: list[Answer]) -> list[ActorReport]:
    return [answer for answer in answers if isinstance(answer, ActorReport)]


def updates(answers: list[Answer]) -> int:
    return sum(report.has_gradient for report in reports(answers))


def mean_score(answers: list[Answer]) -> float:
    scores = [e.score for report in reports(answers) for e in report.sampler.episodes]
    return float(np.mean(scores[-20:])) if len(scores) >= 20 else 0.0


def pids(answers: list[Answer]) -> dict[int, int]:
    return {report.sampler.slot // SLOTS: report.pid for report in reports(answers)}


def states_of_one_moment(group: LearnerGroup) -> list[dict[str, Any]]:
    """Asks until both learners happen to have taken the same number of steps."""
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        states = group.states()
        if len(states) == 2 and len({learners.age_of(state) for state in states}) == 1:
            return states
    raise AssertionError("the learners are never at the same step")


def assert_equal(states: list[dict[str, Any]]) -> None:
    one, other = states
    for part in ("network", "optimiser"):
        assert one[part].keys() == other[part].keys()
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name]), name


@pytest.mark.timeout(300)
def test_two_learners_learn_to_balance_a_pole_with_weights_that_stay_equal(
    start: Callable[..., LearnerGroup],
):
    group = start(cart_setup())
    answers = poll_until(group, lambda seen: mean_score(seen) >= GOOD_SCORE)
    assert not [answer for answer in answers if isinstance(answer, ActorLost)]
    assert {report.sampler.slot for report in reports(answers)} == set(range(2 * SLOTS))
    assert len(set(pids(answers).values())) == 2
    first = [e.score for report in reports(answers) for e in report.sampler.episodes][:50]
    assert np.mean(first) < 2 * RANDOM_SCORE
    assert_equal(states_of_one_moment(group))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_learner_that_is_killed_is_replaced_and_the_run_goes_on(
    start: Callable[..., LearnerGroup], rank: int
):
    group = start(cart_setup())
    before = poll_until(group, lambda seen: updates(seen) >= 5 and len(pids(seen)) == 2)
    version = group.parameters()["version"]
    os.kill(pids(before)[rank], signal.SIGKILL)
    after = poll_until(
        group,
        lambda seen: (
            any(isinstance(answer, ActorLost) for answer in seen)
            and updates(seen[_last_loss(seen) :]) >= 5
        ),
    )
    lost = [answer.slot for answer in after if isinstance(answer, ActorLost)]
    assert lost == list(range(rank * SLOTS, (rank + 1) * SLOTS))
    assert pids(after)[rank] != pids(before)[rank]
    assert pids(after)[1 - rank] == pids(before)[1 - rank]
    states = states_of_one_moment(group)
    assert_equal(states)
    assert states[0]["version"] >= version + 5


def _last_loss(answers: list[Answer]) -> int:
    return max(n for n, answer in enumerate(answers) if isinstance(answer, ActorLost))


@pytest.mark.timeout(300)
def test_the_run_goes_on_from_a_copy_when_all_learners_are_killed_at_once(
    start: Callable[..., LearnerGroup],
):
    group = start(cart_setup())
    before = poll_until(group, lambda seen: updates(seen) >= 5 and len(pids(seen)) == 2)
    version = group.parameters()["version"]
    for pid in pids(before).values():
        os.kill(pid, signal.SIGKILL)
    poll_until(
        group,
        lambda seen: (
            sum(isinstance(answer, ActorLost) for answer in seen) == 2 * SLOTS
            and updates(seen[_last_loss(seen) :]) >= 1
        ),
    )
    assert group.parameters()["version"] > version


@pytest.mark.timeout(300)
def test_a_learner_whose_slots_hang_is_replaced(
    start: Callable[..., LearnerGroup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(learners, "SILENT_S", 10.0)
    source = from_slots(functools.partial(slots_that_hang_once, tmp_path / "flag"))
    group = start(cart_setup(make_source=source))
    answers = poll_until(group, lambda seen: updates(seen) >= 3)
    lost = [answer.slot for answer in answers if isinstance(answer, ActorLost)]
    assert lost[:SLOTS] == list(range(SLOTS))


@pytest.mark.timeout(300)
def test_a_group_goes_on_from_a_checkpoint(start: Callable[..., LearnerGroup]):
    first = start(cart_setup(num_learners=1))
    poll_until(first, lambda seen: updates(seen) >= 3)
    parameters = first.parameters()
    first.close()
    second = start(cart_setup(num_learners=1), parameters=parameters)
    poll_until(second, lambda seen: updates(seen) >= 1)
    assert second.parameters()["version"] > parameters["version"]


@pytest.mark.timeout(300)
def test_learners_learn_from_a_service_whose_weights_lag_behind(
    start: Callable[..., LearnerGroup],
):
    source = from_service(service_slots, slots_per_actor=4, actor_options={"num_cpus": 0.25})
    group = start(cart_setup(num_learners=1, make_source=source))
    answers = poll_until(group, lambda seen: mean_score(seen) >= GOOD_SCORE)
    ratios = [r.statistics["ratio"] for r in reports(answers) if r.has_gradient]
    assert any(ratio != 1.0 for ratio in ratios)
    assert {report.sampler.slot for report in reports(answers)} == set(range(SLOTS))
