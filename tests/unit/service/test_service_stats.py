from __future__ import annotations

from typing import Any

from raygym.core import Outcome
from raygym.service.actor_answers import Answer
from raygym.service.reports import ActorLost, ActorReport, EpisodeRecord, SamplerReport
from raygym.service.service_stats import ActorAccount, ServiceAccounts, ServiceStats
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.slots import SlotReport
from tests.support.fake_slots import FakePolicy, FakeSlots


def make_answer(**changes: Any) -> Answer:
    return Answer(
        **{
            "rollout": None,
            "reports": [],
            "slots": [],
            "rollouts_dropped": 0,
            "rollouts_waiting": 0,
            "stuck_s": 0.0,
            "is_made": True,
            "pid": 12,
            **changes,
        }
    )


def episode(outcome: Outcome) -> EpisodeRecord:
    return EpisodeRecord(slot=3, score=1.0, steps=5, duration_s=1.0, outcome=outcome, reason="")


def stats_of(accounts: ServiceAccounts, account: ActorAccount, now_s: float) -> ServiceStats:
    return accounts.stats({2: (3, account)}, actors=1, version=4, nodes=(), now_s=now_s)


def test_steps_episodes_and_remotes_are_summed_over_the_answers():
    accounts, account = ServiceAccounts(), ActorAccount()
    report = SamplerReport(slot=3, steps=20, episodes=[episode(Outcome.OK)])
    slots = [
        SlotReport(slot=0, state="running", remotes_started=2, remotes_lost=1),
        SlotReport(slot=1, state="quarantined", failures_in_a_row=6, error="log: bad image"),
    ]
    accounts.note_answer(account, make_answer(reports=[report], slots=slots), 100.0)
    accounts.note_answer(account, make_answer(rollouts_dropped=2, rollouts_waiting=1), 110.0)
    stats = stats_of(accounts, account, 110.0)
    assert stats.slots == {"running": 1, "quarantined": 1, "starting": 1}
    assert (stats.steps, stats.steps_per_s) == (20, 2.0)
    assert (stats.episodes, stats.outcomes) == (1, {"ok": 1})
    assert (stats.remotes_started, stats.remotes_lost) == (2, 1)
    assert (stats.rollouts_dropped, stats.rollouts_waiting) == (2, 1)
    (sick,) = stats.quarantine
    assert (sick.kind, sick.name, sick.failures, sick.error) == ("slot", "3", 6, "log: bad image")
    (told,) = accounts.reports
    assert isinstance(told, ActorReport)
    assert (told.sampler, told.pid) == (report, 12)


def test_an_actor_that_is_lost_takes_its_remotes_along():
    accounts, account = ServiceAccounts(), ActorAccount()
    slots = [
        SlotReport(slot=0, state="running", remotes_started=2, remotes_lost=1),
        SlotReport(slot=1, state="starting"),
    ]
    accounts.note_answer(account, make_answer(slots=slots, rollouts_dropped=2), 0.0)
    accounts.note_lost(account, range(2, 4), "killed")
    accounts.note_answer(account, make_answer(slots=slots, rollouts_dropped=1), 0.0)
    stats = stats_of(accounts, account, 1.0)
    assert stats.actors_lost == 1
    assert (stats.remotes_started, stats.remotes_lost) == (4, 3)
    assert stats.rollouts_dropped == 3
    assert stats.outcomes == {"ok": 0, "infra_failure": 1}
    assert list(accounts.reports) == [ActorLost(2, "killed"), ActorLost(3, "killed")]


def test_the_weights_lag_is_counted_in_versions():
    accounts = ServiceAccounts()
    policy = FakePolicy()
    sampler = SlotSampler(FakeSlots(2), policy, rollout_steps=2)
    policy.weights_version = 3
    rollout = sampler.collect()
    assert rollout is not None
    accounts.note_rollout(rollout, 3)
    accounts.note_rollout(rollout, 6)
    stats = stats_of(accounts, ActorAccount(), 0.0)
    assert (stats.rollouts, stats.weights_lag) == (2, 1.5)


def test_before_any_step_there_is_no_rate():
    stats = stats_of(ServiceAccounts(), ActorAccount(), 5.0)
    assert (stats.steps_per_s, stats.weights_lag, stats.slots) == (0.0, 0.0, {"starting": 3})
