from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raygym.core import Outcome, Rollout
from raygym.errors import MissingDependency
from raygym.service.reports import Claim, SamplerReport
from raygym.service.rollouts import RolloutBuilder
from raygym.service.sampler import Sampler, SamplerConfig
from tests.support.tiny_envs import CountingEnv

T = 4


class CountingPolicy:
    """Its value is the first pixel, its state the number of steps since the last reset."""

    def __init__(self) -> None:
        self.weights_version = 7
        self.random = np.random.default_rng(1)

    def initial_state(self, batch):
        return (np.zeros((batch, 1), np.float32),)

    def act(self, observations, state):
        values = observations[:, 0, 0, 0].astype(np.float32)
        return np.array([2]), np.array([-1.0]), values, (state[0] + 1,)

    def values(self, observations, state):
        return 1000 + observations[:, 0, 0, 0].astype(np.float32)


class Bench:
    """A sampler whose environment steps only when the test lets it."""

    def __init__(self, env: CountingEnv, config: SamplerConfig) -> None:
        self.env = env
        self.permits = threading.Semaphore(0)
        env.pace = self.permits
        self.policy = CountingPolicy()
        self.sampler = Sampler(slot=3, env_factory=lambda: env, policy=self.policy, config=config)

    def let_step(self, steps: int) -> None:
        self.permits.release(steps)

    def rollouts(self, count: int) -> list[Rollout]:
        self.let_step(count * T)
        found: list[Rollout] = []
        while len(found) < count:
            taken = self.sampler.take(timeout_s=10)
            assert taken, f"only {len(found)} of {count} rollouts came"
            found += taken
        return found


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(script: tuple[str, ...] = ("ok:5",), *, refused_resets: int = 0, **config) -> Bench:
        env = CountingEnv(script, refused_resets=refused_resets)
        made = Bench(
            env, SamplerConfig(rollout_steps=T, first_retry_s=0.0, longest_retry_s=0.0, **config)
        )
        benches.append(made)
        made.sampler.start()
        return made

    yield make
    for made in benches:
        made.let_step(1000)
        assert made.sampler.stop(timeout_s=10)
        assert made.env.is_closed


def collect(sampler: Sampler, until: Callable[[SamplerReport], bool]) -> SamplerReport:
    for _ in range(1000):
        report = sampler.report()
        if until(report):
            return report
        sampler.take(timeout_s=0.01)
    raise AssertionError("the report that was waited for did not come")


def test_rollouts_follow_each_other_without_a_gap(bench):
    first, second = bench(("ok:100",)).rollouts(2)
    assert first.observations[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert first.last_observation[0, 0, 0, 0] == 4
    assert second.observations[:, 0, 0, 0, 0].tolist() == [4, 5, 6, 7]
    assert first.actions.tolist() == [[2]] * 4
    assert first.weights_version == 7


def test_the_state_goes_on_over_rollouts_and_is_reset_at_the_end_of_an_episode(bench):
    rollouts = bench(("ok:6",)).rollouts(4)
    # Rollouts start at steps 0, 4, 8 = 2 into the second episode, and 12 = a new episode.
    assert [float(r.initial_state[0][0, 0]) for r in rollouts] == [0.0, 4.0, 2.0, 0.0]
    assert rollouts[1].terminated[:, 0].tolist() == [False, True, False, False]


def test_a_truncated_step_carries_the_value_of_the_observation_it_ended_on(bench):
    (rollout,) = bench(("cut:3",)).rollouts(1)
    assert rollout.truncated[:, 0].tolist() == [False, False, True, False]
    assert rollout.mask.all()
    assert rollout.final_values[:, 0].tolist() == [0.0, 0.0, 1003.0, 0.0]


@pytest.mark.parametrize("kind", ["infra_failure", "env_failure"])
def test_a_failed_step_is_masked_counted_and_followed_by_a_reset_with_a_seed(bench, kind):
    made = bench((f"{kind}:3", "ok:2", "ok:100"))
    rollouts = made.rollouts(2)
    assert rollouts[0].mask[:, 0].tolist() == [True, True, False, True]
    assert rollouts[0].truncated[:, 0].tolist() == [False, False, True, False]
    assert rollouts[0].final_values.max() == 0
    report = made.sampler.report()
    assert [(e.outcome, e.steps, e.score) for e in report.episodes[:2]] == [
        (Outcome(kind), 3, 3.0),
        (Outcome.OK, 2, 2.0),
    ]
    assert report.episodes[0].reason == "it broke"
    assert report.remotes_lost == (1 if kind == "infra_failure" else 0)
    first, after_failure, after_end = made.env.seeds[:3]
    assert first is not None
    assert after_failure not in (None, first)
    assert after_end is None


def test_every_episode_is_reset_with_a_seed_of_its_own_if_asked(bench):
    made = bench(("ok:2",), seeds_every_episode=True)
    made.rollouts(2)
    first, second, third = made.env.seeds[:3]
    assert None not in (first, second, third)
    assert len({first, second, third}) == 3


def test_the_oldest_rollout_is_dropped_and_counted_when_nobody_takes_them(bench):
    made = bench(("ok:1000",), queue_rollouts=2)
    made.let_step(3 * T)
    collected = 0

    def has_stepped(report: SamplerReport) -> bool:
        nonlocal collected
        collected += report.steps
        return collected == 3 * T and report.rollouts_dropped == 1

    for _ in range(100_000):
        if has_stepped(made.sampler.report()):
            break
    else:
        raise AssertionError("the sampler waited for somebody to take its rollouts")
    taken = made.sampler.take(timeout_s=10)
    assert [int(r.observations[0, 0, 0, 0, 0]) for r in taken] == [4, 8]


def test_in_lock_step_a_full_queue_makes_the_environment_wait_and_nothing_is_lost(bench):
    made = bench(("ok:1000",), queue_rollouts=2, waits_for_learner=True)
    made.let_step(6 * T)
    taken: list[Rollout] = []
    while len(taken) < 6:
        taken += (more := made.sampler.take(timeout_s=10))
        assert 0 < len(more) <= 2
    assert [int(r.observations[0, 0, 0, 0, 0]) for r in taken] == [0, 4, 8, 12, 16, 20]
    assert made.sampler.report().rollouts_dropped == 0


def test_a_sampler_that_waits_for_the_learner_can_be_stopped(bench):
    made = bench(("ok:1000",), queue_rollouts=1, waits_for_learner=True)
    made.let_step(100 * T)
    assert made.sampler.stop(timeout_s=10)
    assert made.env.is_closed
    assert made.env.count < 100 * T


def test_rewards_are_scaled_for_learning_and_not_in_scores(bench):
    made = bench(("ok:4",), reward_scale=0.25)
    (rollout,) = made.rollouts(1)
    assert rollout.rewards.tolist() == [[0.25]] * 4
    report = collect(made.sampler, lambda r: bool(r.episodes))
    assert report.episodes[0].score == 4.0


def test_reports_hold_what_happened_since_the_last_one(bench):
    made = bench(("ok:100",))
    made.rollouts(1)
    report = made.sampler.report()
    assert report.slot == 3
    assert report.state == "running"
    assert report.steps == 4
    assert report.times_ms == {"reaction_time_ms": [21.0, 22.0, 23.0, 24.0]}
    assert report.counts == {"vnc_updates": 8.0, "vnc_bytes": 400.0}
    assert report.remotes_started == 1
    following = made.sampler.report()
    assert (following.steps, following.times_ms, following.remotes_started) == (0, {}, 1)


def test_a_claim_in_the_first_info_is_reported(bench, monkeypatch):
    reset = CountingEnv.reset

    def claiming_reset(env: CountingEnv, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = reset(env, **options)
        is_first = env.episode == 0
        return observation, info | ({"claim_s": 0.5, "claim_causes": ""} if is_first else {})

    monkeypatch.setattr(CountingEnv, "reset", claiming_reset)
    made = bench(("ok:2",))
    made.rollouts(1)
    assert made.sampler.report().claims == [Claim(seconds=0.5)]
    made.rollouts(1)
    assert made.sampler.report().claims == []


@pytest.mark.parametrize(("is_masked", "count"), [(True, 0), (False, 1)])
def test_a_failed_step_that_is_not_masked_is_counted(bench, monkeypatch, is_masked, count):
    if not is_masked:
        finish = RolloutBuilder.finish

        def finish_unmasked(builder: RolloutBuilder, last: Any) -> Rollout:
            rollout = finish(builder, last)
            return replace(rollout, mask=np.ones_like(rollout.mask))

        monkeypatch.setattr(RolloutBuilder, "finish", finish_unmasked)
    made = bench(("env_failure:3", "ok:100"))
    made.rollouts(1)
    assert made.sampler.report().fabricated_zeros == count


def test_a_start_that_fails_is_tried_again(bench):
    made = bench(refused_resets=2)
    made.rollouts(1)
    assert made.env.refused_resets == 0
    report = made.sampler.report()
    assert (report.state, report.error, report.start_failures) == ("running", "", 0)


def test_starts_that_keep_failing_are_counted_with_the_error(bench):
    made = bench(refused_resets=10**9)
    report = collect(made.sampler, lambda r: r.start_failures >= 3)
    assert report.state in ("retrying", "starting")
    assert "RemoteFailedToStart: remote r-1 did not get ready" in report.error
    assert not report.is_fatal


def test_a_sampler_outlives_any_number_of_failed_starts(bench):
    made = bench(refused_resets=1500)
    report = collect(made.sampler, lambda r: r.state == "running")
    assert (report.start_failures, report.error) == (0, "")


def test_a_missing_program_ends_the_sampler_for_good():
    def fail() -> CountingEnv:
        raise MissingDependency("Xvnc is not on the PATH: apt-get install it")

    sampler = Sampler(slot=0, env_factory=fail, policy=CountingPolicy(), config=SamplerConfig())
    sampler.start()
    assert sampler.take(timeout_s=10) == []
    report = sampler.report()
    assert (report.state, report.is_fatal) == ("failed", True)
    assert report.error == "Xvnc is not on the PATH: apt-get install it"
    assert sampler.stop(timeout_s=10)


def test_a_bug_ends_the_sampler_with_its_traceback_and_closes_the_environment():
    env = CountingEnv(("nonsense:x",))
    sampler = Sampler(
        slot=0, env_factory=lambda: env, policy=CountingPolicy(), config=SamplerConfig()
    )
    sampler.start()
    assert sampler.take(timeout_s=10) == []
    report = sampler.report()
    assert (report.state, report.is_fatal) == ("failed", False)
    assert "Traceback" in report.error
    assert "ValueError" in report.error
    assert sampler.stop(timeout_s=10)
    assert env.is_closed


def test_the_random_state_of_a_report_is_that_after_its_last_rollout(bench):
    made = bench()
    made.rollouts(1)
    expected = np.random.default_rng(1)
    expected.integers(2**31)  # the seed of the first reset
    assert made.sampler.report().random_state == expected.bit_generator.state


def test_a_sampler_that_never_started_can_be_stopped():
    sampler = Sampler(
        slot=0, env_factory=CountingEnv, policy=CountingPolicy(), config=SamplerConfig()
    )
    assert sampler.stop(timeout_s=1)
