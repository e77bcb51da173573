from __future__ import annotations

from raygym.service.metrics.run_meters import RunMeters
from raygym.service.reports import ActorReport, SamplerReport
from raygym.service.spectators import Show
from tests.support.written_metrics import TAGS, WrittenMetrics

SHOW = Show(run="r", env_id="test.Env-v0", runtime="test", mode="lockstep")


def report(**statistics: float) -> ActorReport:
    return ActorReport(
        sampler=SamplerReport(slot=0),
        has_gradient=bool(statistics),
        statistics=statistics,
        pid=1,
    )


def test_updates_and_the_lag_of_their_weights_are_counted():
    written = WrittenMetrics()
    meters = RunMeters(SHOW, written.recorder(TAGS))
    meters.note(report(weights_lag=2.0, policy_loss=0.1))
    meters.note(report(weights_lag=1.0))
    meters.note(report(policy_loss=0.1))
    meters.note(report())
    meters.note_lost()
    meters.close()
    assert written.value("raygym_learner_updates", run="r") == 3.0
    assert written.value("raygym_weights_lag_sum") == 3.0
    assert written.value("raygym_weights_lag_count") == 2.0
    assert written.value("raygym_slots_cut_off") == 1.0


def test_all_of_them_begin_with_0():
    written = WrittenMetrics()
    RunMeters(SHOW, written.recorder(TAGS)).close()
    assert len(written.names()) == 4
    assert set(written.values.values()) == {0.0}


def test_they_are_handed_over_as_the_run_goes_on():
    written = WrittenMetrics()
    meters = RunMeters(SHOW, written.recorder(TAGS))
    written.now_s = 3.0
    meters.note(report(weights_lag=0.0))
    assert written.value("raygym_learner_updates") == 1.0
