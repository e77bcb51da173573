"""The rollout service over a small Ray of this machine."""

from __future__ import annotations

import collections
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray

import raygym
from raygym.core import Rollout
from raygym.errors import ConfigError, MissingDependency, RemoteFailedToStart
from raygym.service.crew_members import RolloutsFailed
from raygym.service.reports import ActorLost, ActorReport
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.supervision import Supervision
from tests.support.fake_slots import FakePolicy, FakeSlots
from tests.support.small_ray import small_ray

T = 16
LONG_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with small_ray():
        yield


@pytest.fixture
def serve() -> Iterator[Callable[..., raygym.RolloutService]]:
    """Makes services, which are closed afterwards."""
    services: list[raygym.RolloutService] = []

    def make(env: Any, num_slots: int, **settings: Any) -> raygym.RolloutService:
        settings = {"rollout_steps": T, "actor_options": {"num_cpus": 0.1}, **settings}
        services.append(raygym.RolloutService(env, num_slots, **settings))
        return services[-1]

    yield make
    for service in services:
        service.close()


def fake_slots(first_slot: int, num_slots: int, **settings: Any) -> FakeSlots:
    return FakeSlots(num_slots, **settings)


def some_policy(_actor: int) -> FakePolicy:
    return FakePolicy()


def take(service: raygym.RolloutService, count: int) -> list[Rollout]:
    rollouts = service.rollouts(timeout_s=LONG_S)
    return [next(rollouts) for _ in range(count)]


def until(service: raygym.RolloutService, condition: Callable[[Rollout], bool]) -> list[Rollout]:
    """Takes rollouts until one is as wanted, which is the last."""
    taken = []
    deadline_s = time.monotonic() + LONG_S
    for rollout in service.rollouts(timeout_s=LONG_S):
        taken.append(rollout)
        if condition(rollout):
            return taken
        assert time.monotonic() < deadline_s, f"not within {LONG_S:g} s"
    raise AssertionError("no more rollouts came")


def steps_by_slot(rollouts: list[Rollout]) -> dict[int, list[tuple[int, ...]]]:
    """By slot, (episode, step) in the order in which they came; of FakeSlots."""
    steps: dict[int, list[tuple[int, ...]]] = collections.defaultdict(list)
    for rollout in rollouts:
        assert rollout.traces is not None
        for column, slot in enumerate(rollout.traces.slots.tolist()):
            episodes = rollout.traces.episodes[:, column]
            numbers = rollout.observations[:, column, 2]
            steps[slot] += [(int(e), int(n)) for e, n in zip(episodes, numbers, strict=True)]
    return steps


def pids(service: raygym.RolloutService) -> dict[int, int]:
    """By slot, the process of its actor, as the reports until now tell."""
    reports = (r for r in service.reports() if isinstance(r, ActorReport))
    return {report.sampler.slot: report.pid for report in reports}


def test_cartpole_is_played_from_its_id(serve):
    service = serve("CartPole-v1", 4, slots_per_actor=2)
    slots: set[int] = set()

    def has_all(rollout: Rollout) -> bool:
        slots.update(rollout.traces.slots.tolist())
        return slots == {0, 1, 2, 3} and service.stats().episodes >= 4

    rollouts = until(service, has_all)
    for rollout in rollouts:
        assert rollout.observations.shape == (T, len(rollout.traces.slots), 4)
        assert rollout.mask.all()
        assert set(np.unique(rollout.actions)) <= {0, 1}
    stats = service.stats()
    assert stats.slots == {"running": 4}
    assert stats.outcomes == {"ok": stats.episodes}
    assert stats.rollouts == len(rollouts)
    assert stats.steps >= T * sum(len(r.traces.slots) for r in rollouts)
    assert stats.actors == 2
    assert stats.quarantine == ()


def test_every_step_comes_once_and_in_order(serve):
    env = functools.partial(fake_slots, episode_steps=7)
    service = serve(env, 6, slots_per_actor=3, policy=some_policy, columns=1)
    seen: set[int] = set()
    taken = until(service, lambda r: seen.update(r.traces.slots.tolist()) or len(seen) == 6)
    steps = steps_by_slot(taken + take(service, 20))
    for rows in steps.values():
        assert rows == [divmod(row, 7) for row in range(len(rows))]


def test_new_weights_and_new_policies_reach_every_actor(serve):
    service = serve(fake_slots, 4, slots_per_actor=2, policy=some_policy)
    first = take(service, 1)[0]
    assert first.traces.weights_versions.max() == 0
    assert service.set_policy({"layer": np.ones(3)}, 7) == 7
    slots: set[int] = set()

    def has_news(rollout: Rollout) -> bool:
        if rollout.traces.weights_versions.min() == service.stats().weights_version:
            slots.update(rollout.traces.slots.tolist())
        return slots == set(range(4))

    until(service, has_news)
    slots.clear()
    assert service.set_policy(FakePolicy()) == 8
    last = until(service, has_news)[-1]
    assert last.weights_version == 8
    with pytest.raises(ConfigError, match="expected more than 8, got 8"):
        service.set_policy({}, 8)


def test_without_prefetch_each_rollout_is_played_with_the_weights_of_now(serve):
    service = serve(fake_slots, 2, policy=some_policy, prefetch=0)
    for version in range(1, 5):
        service.set_policy({}, version)
        rollout = take(service, 1)[0]
        assert (rollout.traces.weights_versions == version).all()
    assert service.stats().weights_lag == 0.0


def test_a_slow_learner_stops_the_actors(serve, tmp_path):
    log = tmp_path / "steps"
    log.touch()
    service = serve(functools.partial(counting_slots, log), 2, slots_per_actor=1, prefetch=2)
    take(service, 2)
    counts = [-1, log.stat().st_size]
    while counts[-1] != counts[-2]:
        time.sleep(1.0)
        counts.append(log.stat().st_size)
    # Of each actor: two that wait, one that was answered already, and those taken before.
    assert counts[-1] <= 2 * T * (2 + 1 + 1) + 2 * T
    took = take(service, 8)
    assert len(took) == 8


class Counting(gymnasium.Env[Any, Any]):
    """Writes a byte for each step."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, path: Any) -> None:
        self._path = path

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        with self._path.open("ab") as file:
            file.write(b".")
        return np.zeros(2, np.float32), 1.0, False, False, {}


def counting_slots(path: Any, first_slot: int, num_slots: int) -> InlineSlots:
    return InlineSlots(lambda _: Counting(path), num_slots)


def test_in_real_time_the_oldest_rollout_goes_and_is_counted(serve):
    service = serve(fake_slots, 1, policy=some_policy, waits_for_learner=False, slots_per_actor=1)
    until(service, lambda _: service.stats().rollouts_dropped > 0)
    reports = [r for r in service.reports() if isinstance(r, ActorReport)]
    assert sum(report.sampler.steps for report in reports) == service.stats().steps
    assert service.stats().rollouts_waiting <= 1


def test_slots_come_and_go(serve):
    service = serve(fake_slots, 2, slots_per_actor=2, policy=some_policy)
    take(service, 2)
    service.scale(5)
    seen: set[int] = set()
    until(service, lambda r: seen.update(r.traces.slots.tolist()) or seen == set(range(5)))
    service.scale(2)
    later = take(service, 8)
    assert {slot for r in later for slot in r.traces.slots.tolist()} == {0, 1}
    assert service.stats().slots == {"running": 2}


@pytest.mark.parametrize("end", ["ray.kill", "kill -9"])
def test_an_actor_that_dies_is_replaced_while_the_others_play_on(serve, end):
    env = functools.partial(fake_slots, episode_steps=7)
    service = serve(env, 4, slots_per_actor=2, policy=some_policy)
    before: dict[int, int] = {}
    taken = until(service, lambda _: before.update(pids(service)) or len(before) == 4)
    if end == "ray.kill":
        ray.kill(service._crew.members[0].handle)
    else:
        os.kill(before[0], signal.SIGKILL)
    after: dict[int, int] = {}
    lost: list[ActorLost] = []

    def is_back(rollout: Rollout) -> bool:
        for report in service.reports():
            if isinstance(report, ActorLost):
                lost.append(report)
            else:
                after[report.sampler.slot] = report.pid
        return 0 in rollout.traces.slots and after.get(0, before[0]) != before[0]

    taken += until(service, is_back)
    assert sorted(report.slot for report in lost) == [0, 1]
    assert after[2] == before[2]
    assert service.stats().actors_lost == 1
    steps = steps_by_slot(taken)
    for slot, rows in steps.items():
        assert len(rows) == len(set(rows)), "no step comes twice"
        assert rows == sorted(rows), "steps come in order"
        if slot >= 2:
            assert rows == [divmod(row, 7) for row in range(len(rows))]


def test_a_slow_slot_does_not_hold_the_others(serve):
    service = serve(one_is_slow, 4, slots_per_actor=4)
    rollouts = take(service, 6)
    assert all(set(r.traces.slots.tolist()) == {0, 1, 2} for r in rollouts)


def one_is_slow(first_slot: int, num_slots: int) -> FakeSlots:
    return FakeSlots(num_slots, pace=lambda slot, _: 10**6 if slot == 3 else 1)


def test_draining_hands_out_what_was_played_and_begins_nothing_more(serve):
    service = serve(fake_slots, 2, slots_per_actor=1, policy=some_policy, prefetch=2)
    taken = take(service, 4)
    taken += list(service.drain(timeout_s=LONG_S))
    assert len(taken) > 4
    assert list(service.drain(timeout_s=LONG_S)) == []
    taken += take(service, 4)
    for rows in steps_by_slot(taken).values():
        assert rows == [divmod(row, 5) for row in range(len(rows))]


def test_an_environment_that_is_not_there_is_said_at_once(serve):
    with pytest.raises(ConfigError, match="NoSuchThing-v0"):
        serve("NoSuchThing-v0", 2)


def test_a_program_that_is_absent_is_said_at_once(serve):
    service = serve(lacks_a_program, 2)
    with pytest.raises(MissingDependency, match="no such browser"):
        take(service, 1)


def lacks_a_program(first_slot: int, num_slots: int) -> FakeSlots:
    raise MissingDependency(f"slots {first_slot} to {num_slots}: no such browser")


def test_starts_that_all_fail_are_told_with_their_log(serve):
    patience = Supervision(first_retry_s=0.01, longest_retry_s=0.02, quarantine_after=3)
    service = serve(never_starts, 4, slots_per_actor=2, supervision=patience)
    with pytest.raises(RemoteFailedToStart, match="log: the image is broken"):
        take(service, 1)


def never_starts(first_slot: int, num_slots: int) -> FakeSlots:
    raise RemoteFailedToStart(f"slots {first_slot} to {num_slots}; log: the image is broken")


def test_an_actor_whose_starts_all_fail_is_made_anew_where_there_are_other_nodes(
    serve, tmp_path, monkeypatch
):
    here = ray.get_runtime_context().get_node_id()
    monkeypatch.setattr("raygym.service.rollout_crew.alive_nodes", lambda: [here, "a" * 56])
    patience = Supervision(first_retry_s=0.01, longest_retry_s=0.02, quarantine_after=3)
    env = functools.partial(starts_in_a_second_process, tmp_path)
    service = serve(env, 4, slots_per_actor=2, supervision=patience)
    until(service, lambda r: 0 in r.traces.slots)
    assert service.stats().actors_lost == 1
    assert len(list(tmp_path.iterdir())) == 2


def starts_in_a_second_process(path: Path, first_slot: int, num_slots: int) -> FakeSlots:
    if first_slot == 0:
        (path / str(os.getpid())).touch()
        if len(list(path.iterdir())) < 2:
            raise RemoteFailedToStart("nothing starts here")
    return FakeSlots(num_slots)


def test_a_policy_that_breaks_is_told_after_some_tries(serve):
    patience = Supervision(first_retry_s=0.01, longest_retry_s=0.02)
    service = serve(fake_slots, 2, policy=breaks, supervision=patience)
    with pytest.raises(RolloutsFailed, match="ZeroDivisionError"):
        take(service, 1)
    assert service.stats().actors_lost == 3


def breaks(_actor: int) -> FakePolicy:
    return FakePolicy(actions=lambda _: 1 // 0)


def test_an_actor_that_nobody_hears_of_any_more_ends(serve):
    service = serve(fake_slots, 1, policy=some_policy, orphan_timeout_s=2.0)
    take(service, 1)
    pid = pids(service)[0]
    # As if the driver were cut off: no questions, and no signs of life.
    service._crew._is_over.set()
    deadline_s = time.monotonic() + LONG_S
    while is_running(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_closing_ends_the_actors_and_may_be_done_twice(serve):
    with serve(fake_slots, 2, policy=some_policy) as service:
        take(service, 1)
        pid = pids(service)[0]
    deadline_s = time.monotonic() + LONG_S
    while is_running(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    service.close()
