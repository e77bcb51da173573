from __future__ import annotations

import pickle

import numpy as np
import pytest

from raygym.core import Outcome
from raygym.service.metrics.meters import Meters
from raygym.service.reports import Claim, EpisodeRecord, SamplerReport
from raygym.service.spectators import Show, Spectators
from tests.support.written_metrics import WrittenMetrics

PICTURES = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.fixture
def written() -> WrittenMetrics:
    return WrittenMetrics()


@pytest.fixture
def meters(written: WrittenMetrics) -> Meters:
    return Meters(written.recorder(), is_realtime=True)


def record(slot: int = 0, score: float = 1.0, outcome: Outcome = Outcome.OK) -> EpisodeRecord:
    return EpisodeRecord(
        slot=slot, score=score, steps=5, duration_s=1.0, outcome=outcome, reason=""
    )


def test_steps_have_an_exact_mean_and_the_first_of_an_episode_is_none(meters, written):
    meters.stepped(np.array([0, 1]), PICTURES, 0.0)
    meters.stepped(np.array([0, 1]), PICTURES, 0.010)
    meters.stepped(np.array([1]), PICTURES[:1], 0.040)
    meters.flush()
    assert written.value("raygym_step_latency_count") == 3.0
    assert written.value("raygym_step_latency_sum_seconds") == pytest.approx(0.060)


def test_a_step_flushes_what_is_due(meters, written):
    meters.stepped(np.array([0]), PICTURES[:1], 0.01)
    assert written.num_writes == 0
    written.now_s = 2.5
    meters.stepped(np.array([0]), PICTURES[:1], 0.01)
    assert written.value("raygym_step_latency_count") == 2.0


def test_a_report_flushes_what_is_due(meters, written):
    written.now_s = 2.5
    meters.reported([SamplerReport(slot=4, state="retrying")])
    assert written.value("raygym_slots", state="retrying") == 1.0


def test_scores_above_and_below_0_give_a_mean_and_failed_episodes_none(meters, written):
    for score in (3.0, -1.5, 0.0):
        meters.ended(record(score=score))
    meters.ended(record(score=100.0, outcome=Outcome.INFRA_FAILURE))
    meters.flush()
    assert written.value("raygym_score_gained", slot="0") == 3.0
    assert written.value("raygym_score_lost", slot="0") == 1.5
    assert written.value("raygym_episodes", outcome="ok") == 3.0
    assert written.value("raygym_episodes", outcome="infra_failure") == 1.0
    assert written.value("raygym_last_score", slot="0") == 0.0


def test_reports_give_steps_lags_frames_bytes_and_decode_time(meters, written):
    report = SamplerReport(
        slot=7,
        state="running",
        steps=20,
        times_ms={"reaction_time_ms": [40.0, 60.0], "observation_lag_ms": [-0.5, 10.0]},
        counts={
            "vnc_updates": 18.0,
            "vnc_bytes": 4000.0,
            "vnc_pixels": 90.0,
            "vnc_decode_s": 0.02,
            "rewards": 3.0,
        },
    )
    meters.reported([report, SamplerReport(slot=8, state="running", steps=5)])
    meters.flush()
    assert written.value("raygym_env_steps", slot="7") == 20.0
    assert written.value("raygym_env_steps") == 25.0
    assert written.value("raygym_reaction_time_sum_seconds", slot="7") == pytest.approx(0.1)
    assert written.value("raygym_reaction_time_count", slot="8") == 0.0
    assert written.value("raygym_observation_lag_sum_seconds", slot="7") == pytest.approx(0.01)
    assert written.value("raygym_frames") == 18.0
    assert written.value("raygym_received") == 4000.0
    assert written.value("raygym_pixels") == 90.0
    assert written.value("raygym_decode_seconds") == 0.02


def test_each_slot_is_in_one_state_and_in_none_after_the_end(meters, written):
    meters.reported([SamplerReport(slot=0), SamplerReport(slot=1, state="running")])
    meters.reported([SamplerReport(slot=0, state="running")])
    meters.flush()
    assert written.value("raygym_slots", state="running") == 2.0
    assert written.value("raygym_slots") == 2.0
    meters.close()
    meters.close()
    assert written.value("raygym_slots") == 0.0


def test_claims_are_timed_and_relaunches_counted_by_cause(meters, written):
    meters.reported([SamplerReport(slot=0, claims=[Claim(seconds=2.0)])])
    meters.reported(
        [
            SamplerReport(
                slot=0,
                claims=[
                    Claim(seconds=0.5, causes=("infra_failure", "start_failed")),
                    Claim(seconds=0.5, causes=("worn",)),
                ],
            ),
            SamplerReport(slot=1, claims=[Claim(seconds=1.0)]),
        ]
    )
    meters.flush()
    assert written.value("raygym_claim_latency_count", slot="0") == 3.0
    assert written.value("raygym_claim_latency_sum_seconds", slot="0") == 3.0
    assert written.value("raygym_claim_latency_bucket", le="+Inf") == 4.0
    causes = ("infra_failure", "start_failed", "worn", "preempted", "remade")
    counts = [written.value("raygym_relaunches", cause=cause) for cause in causes]
    assert counts == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_second_claim_that_knows_no_cause_is_of_an_environment_that_was_made_anew(
    meters, written
):
    for _ in range(2):
        meters.reported([SamplerReport(slot=0, claims=[Claim(seconds=1.0)])])
    meters.flush()
    assert written.value("raygym_relaunches", cause="remade") == 1.0


def test_failed_starts_are_counted_from_how_many_there_were_in_a_row(meters, written):
    for in_a_row in (1, 3, 3, 0, 2, 1):
        meters.reported([SamplerReport(slot=0, start_failures=in_a_row)])
    meters.flush()
    assert written.value("raygym_start_failures", slot="0") == 1 + 2 + 2 + 1


def test_fabricated_zeros_are_there_with_0_and_count_what_a_report_says(meters, written):
    meters.flush()
    assert written.value("raygym_fabricated_zeros") == 0.0
    meters.reported([SamplerReport(slot=0, fabricated_zeros=2)])
    meters.flush()
    assert written.value("raygym_fabricated_zeros") == 2.0


def test_in_lock_step_there_are_no_lags_and_no_frames(written):
    meters = Meters(written.recorder(), is_realtime=False)
    meters.reported([SamplerReport(slot=0, state="running", steps=20)])
    meters.stepped(np.array([0]), PICTURES[:1], 0.001)
    meters.flush()
    parts = ("lag_", "reaction", "frames", "received", "pixels", "decode")
    assert [name for name in written.names() if any(part in name for part in parts)] == []
    assert written.value("raygym_env_steps") == 20.0


def test_a_show_opens_them_in_an_actor():
    show = Show(
        run="r", env_id="e", runtime="t", mode="lockstep", first_slot=8, opens=(Meters.open,)
    )
    spectators = Spectators.of(pickle.loads(pickle.dumps(show)), actor="a")
    assert spectators
    spectators.reported([SamplerReport(slot=0)])
    spectators.stepped(np.array([0]), PICTURES[:1], 0.01)
    assert spectators, "one that raises would have been left out"
    spectators.close()
