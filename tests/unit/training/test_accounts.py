from __future__ import annotations

import pytest

from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord, SamplerReport
from raygym.training.accounts import Accounts, percentiles
from tests.support.plans import SPEC


def episode(score: float = 0.0, *, outcome: Outcome = Outcome.OK, slot: int = 0) -> EpisodeRecord:
    return EpisodeRecord(
        slot=slot, score=score, steps=7, duration_s=2.0, outcome=outcome, reason=""
    )


def report(slot: int = 0, **fields) -> ActorReport:
    sampler = SamplerReport(slot=slot, state="running", **fields)
    return ActorReport(sampler=sampler, has_gradient=False, statistics={}, pid=1)


@pytest.fixture
def accounts() -> Accounts:
    return Accounts(SPEC, 2, seed=4, env_steps=1000, episodes=50)


def test_time_runs_from_the_first_step(accounts: Accounts):
    accounts.note(report(), 100.0)
    assert accounts.minutes(160.0) == 0
    assert accounts.steps_per_s(160.0) == 0
    accounts.note(report(steps=30), 200.0)
    accounts.note(report(1, steps=30), 230.0)
    assert accounts.minutes(260.0) == 1.0
    assert accounts.steps_per_s(260.0) == 1.0


def test_steps_and_episodes_go_on_from_those_before_and_rates_do_not(accounts: Accounts):
    accounts.note(report(steps=60, episodes=[episode(1.0)]), 0.0)
    summary = accounts.summary(30.0)
    assert summary["env_steps"] == 1060
    assert summary["env_steps_this_run"] == 60
    assert summary["episodes"] == 51
    assert summary["steps_per_s"] == 2.0
    assert summary["minutes"] == 0.5


def test_the_summary_has_what_was_promised(accounts: Accounts):
    times = {"reaction_time_ms": [float(ms) for ms in range(101)]}
    episodes = [episode(10.0), episode(0.0)]
    accounts.note(report(steps=1, episodes=episodes, times_ms=times, remotes_started=1), 0.0)
    summary = accounts.summary(1.0)
    assert summary["env"] == "test.Tiny-v0"
    assert summary["mode"] == "realtime"
    assert (summary["mean_score"], summary["best_score"]) == (5.0, 10.0)
    assert (summary["floor"], summary["ceiling"]) == (-10 / 3, 10.0)
    assert summary["share_of_ceiling"] == pytest.approx((5 + 10 / 3) / (10 + 10 / 3))
    assert summary["reaction_time_ms"] == {"p50": 50.0, "p95": 95.0}
    assert summary["outcomes"] == {"ok": 2}
    assert summary["remotes"] == {"started": 1, "lost": 0}
    assert (summary["seed"], summary["workers"]) == (4, 2)
    assert summary["version"]


def test_a_run_without_an_episode_says_so_without_numbers(accounts: Accounts):
    summary = accounts.summary(1.0)
    assert summary["mean_score"] is summary["best_score"] is summary["share_of_ceiling"] is None
    assert summary["reaction_time_ms"] == {"p50": None, "p95": None}
    assert summary["outcomes"] == {"ok": 0}


def test_episodes_that_failed_are_counted_and_have_no_score(accounts: Accounts):
    failed = [episode(99.0, outcome=o) for o in (Outcome.ENV_FAILURE, Outcome.TIMEOUT)]
    accounts.note(report(episodes=[*failed, episode(2.0)]), 0.0)
    summary = accounts.summary(1.0)
    assert summary["outcomes"] == {"ok": 1, "env_failure": 1, "timeout": 1}
    assert summary["mean_score"] == summary["best_score"] == 2.0
    assert accounts.slots[0].last_score == 2.0


def test_the_recent_score_is_that_of_the_last_hundred_episodes(accounts: Accounts):
    accounts.note(report(episodes=[episode(-5.0)] * 40 + [episode(3.0)] * 100), 0.0)
    assert accounts.recent_score() == 3.0
    assert accounts.summary(1.0)["last_100_episodes"]["mean_score"] == 3.0


def test_a_target_is_reached_by_the_mean_of_a_hundred_episodes_and_stays_so():
    accounts = Accounts(SPEC, 2, seed=4, target_score=3.0)
    accounts.note(report(steps=99, episodes=[episode(3.0)] * 99), 0.0)
    assert not accounts.has_reached_target
    assert accounts.summary(1.0)["target"] == {"score": 3.0, "reached": None}
    accounts.note(report(steps=1, episodes=[episode(3.0)]), 60.0)
    assert accounts.has_reached_target
    accounts.note(report(steps=5, episodes=[episode(-5.0)] * 5), 120.0)
    assert accounts.recent_score() < 3.0
    reached = {"env_steps": 100, "minutes": 1.0}
    assert accounts.summary(120.0)["target"] == {"score": 3.0, "reached": reached}


def test_a_target_that_is_out_of_reach_is_not_reached():
    accounts = Accounts(SPEC, 2, seed=4, target_score=3.1)
    accounts.note(report(episodes=[episode(3.0)] * 200), 0.0)
    assert not accounts.has_reached_target


def test_without_a_target_none_is_reached(accounts: Accounts):
    accounts.note(report(episodes=[episode(3.0)] * 200), 0.0)
    assert not accounts.has_reached_target
    assert accounts.summary(1.0)["target"] is None


def test_remotes_are_summed_over_slots_and_over_actors_that_ended(accounts: Accounts):
    accounts.note(report(0, remotes_started=3, remotes_lost=2), 0.0)
    accounts.note(report(1, remotes_started=1), 0.0)
    accounts.note_actor_lost(0, "ActorDiedError: killed")
    assert accounts.slots[0].state == "starting"
    accounts.note(report(0, remotes_started=1), 0.0)
    summary = accounts.summary(1.0)
    assert summary["remotes"] == {"started": 5, "lost": 3}
    assert summary["actors_lost"] == 1
    assert summary["outcomes"] == {"ok": 0, "infra_failure": 1}


def test_an_actor_that_had_no_remote_yet_takes_none_with_it(accounts: Accounts):
    accounts.note_actor_lost(0, "ActorDiedError: killed")
    summary = accounts.summary(1.0)
    assert summary["remotes"] == {"started": 0, "lost": 0}
    assert summary["outcomes"] == {"ok": 0}


def test_percentiles_of_one_number_are_that_number():
    assert percentiles([7.0]) == {"p50": 7.0, "p95": 7.0}
