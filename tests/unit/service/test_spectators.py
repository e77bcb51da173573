"""Who looks on: named, counted on, and never able to end a run."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from raygym.core import Outcome
from raygym.service.reports import EpisodeRecord, SamplerReport
from raygym.service.spectators import Show, Spectators, actor_repr
from tests.support.fake_spectator import FakeSpectator

RECORD = EpisodeRecord(
    slot=1, score=2.0, steps=3, duration_s=0.5, outcome=Outcome.OK, reason="", remote_id="r-1"
)


def tell_all(spectators: Spectators) -> None:
    spectators.stepped(np.array([1]), np.zeros((1, 4, 4, 1), np.uint8), 0.1)
    spectators.ended(RECORD)
    spectators.reported([SamplerReport(slot=1)])


def make_show(*opens, first_slot: int = 0) -> Show:
    return Show(
        run="run",
        env_id="Any-v0",
        runtime="any",
        mode="lockstep",
        opens=opens,
        first_slot=first_slot,
    )


@pytest.mark.parametrize("method", ["stepped", "ended", "reported"])
def test_one_that_fails_is_left_out_and_the_others_stay(method, caplog):
    bad, good = FakeSpectator(fails_at=method), FakeSpectator()
    spectators = Spectators([bad, good])
    tell_all(spectators)
    tell_all(spectators)
    assert len(good.frames) == len(good.records) == len(good.reports) == 2
    assert len(caplog.records) == 1
    assert "spectator.failed" in caplog.text
    assert f"{method} was told to fail" in caplog.text


def test_one_that_fails_twice_at_once_is_left_out_once():
    class Entangled(FakeSpectator):
        def reported(self, _reports):
            # As another thread may do meanwhile.
            spectators.ended(RECORD)
            raise RuntimeError("told to fail")

    good = FakeSpectator()
    spectators = Spectators([Entangled(fails_at="ended"), good])
    spectators.reported([SamplerReport(slot=1)])
    tell_all(spectators)
    assert (len(good.records), len(good.reports)) == (2, 2)


def test_one_that_cannot_be_opened_is_left_out(caplog):
    def fail(_show: Show, _actor: str) -> FakeSpectator:
        raise OSError("no room for it")

    opened = []

    def make(show: Show, actor: str) -> FakeSpectator:
        opened.append((show.env_id, actor))
        return FakeSpectator()

    spectators = Spectators.of(make_show(fail, make), actor="rollouts-3")
    assert spectators
    assert opened == [("Any-v0", "rollouts-3")]
    assert "no room for it" in caplog.text


def test_slots_are_counted_on_from_those_of_other_services():
    guest = FakeSpectator()
    show = make_show(functools.partial(lambda one, *_: one, guest), first_slot=8)
    tell_all(Spectators.of(show, actor="learner-1"))
    assert [slot for slot, _ in guest.frames] == [9]
    assert [record.slot for record in guest.records] == [9]
    assert [report.slot for report in guest.reports] == [9]


def test_nobody_looks_on_without_a_show():
    spectators = Spectators.of(None, actor="slot-0")
    assert not spectators
    assert spectators.actor == "slot-0"
    tell_all(spectators)
    spectators.close()


def test_all_are_closed_even_where_one_fails():
    bad, good = FakeSpectator(fails_at="close"), FakeSpectator()
    spectators = Spectators([bad, good])
    spectators.close()
    spectators.close()
    assert bad.is_closed
    assert good.is_closed


def test_an_actor_stands_in_the_dashboard_by_slots_environment_and_remotes():
    show = replace(make_show(), backend="docker", client_id="train")
    one = actor_repr("EnvActor", 3, 1, show)
    assert one == "EnvActor(slot 3, Any-v0, docker remote of train-3)"
    eight = actor_repr("RolloutActor", 0, 8, replace(show, first_slot=8))
    assert eight == "RolloutActor(slots 8-15, Any-v0, docker remotes of train-8 to train-15)"
    assert actor_repr("LearnerActor", 0, 4, make_show()) == "LearnerActor(slots 0-3, Any-v0)"
    assert actor_repr("EnvActor", 0, 1, None) == "EnvActor(slot 0)"
