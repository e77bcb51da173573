from __future__ import annotations

import threading

import pytest

from raygym.service.metrics.specs import CLAIM_LATENCY, GRANT_LATENCY, LAGS, STEP_LATENCY
from tests.support.written_metrics import WrittenMetrics


@pytest.fixture
def written() -> WrittenMetrics:
    return WrittenMetrics()


def test_what_is_added_is_written_once_and_only_with_a_flush(written):
    recorder = written.recorder()
    recorder.add("raygym_frames", 3.0)
    recorder.add("raygym_frames", 4.0)
    assert written.num_writes == 0
    recorder.flush()
    recorder.flush()
    assert written.value("raygym_frames") == 7.0
    assert written.num_writes == 1


def test_a_gauge_is_written_with_each_flush_as_it_is_now(written):
    recorder = written.recorder()
    recorder.set("raygym_slots", 2.0, "running")
    recorder.set("raygym_slots", 5.0, "running")
    recorder.flush()
    recorder.flush()
    assert written.value("raygym_slots", state="running") == 5.0
    assert written.num_writes == 2


def test_0_makes_a_series_begin(written):
    recorder = written.recorder()
    recorder.add("raygym_fabricated_zeros", 0.0)
    recorder.time(STEP_LATENCY, ())
    recorder.flush()
    assert written.value("raygym_fabricated_zeros") == 0.0
    assert written.value("raygym_step_latency_count") == 0.0
    assert written.value("raygym_step_latency_bucket", le="+Inf") == 0.0


def test_a_flush_is_due_after_its_time_and_not_before(written):
    recorder = written.recorder()
    recorder.add("raygym_frames")
    written.now_s = 1.9
    recorder.flush_if_due()
    assert written.num_writes == 0
    written.now_s = 2.0
    recorder.flush_if_due()
    assert written.num_writes == 1
    recorder.add("raygym_frames")
    recorder.flush_if_due()
    assert written.num_writes == 1


def test_a_time_is_in_each_bucket_from_its_own_bound_on(written):
    recorder = written.recorder()
    recorder.time(CLAIM_LATENCY, [0.05, 0.051, 999.0], "3")
    recorder.flush()
    buckets = {
        bound: written.value("raygym_claim_latency_bucket", le=bound)
        for bound in ("0.01", "0.05", "0.1", "180", "+Inf")
    }
    assert buckets == {"0.01": 0.0, "0.05": 1.0, "0.1": 2.0, "180": 2.0, "+Inf": 3.0}
    assert written.value("raygym_claim_latency_count", slot="3") == 3.0
    assert written.value("raygym_claim_latency_sum_seconds", slot="3") == pytest.approx(999.101)


def test_times_of_slots_have_sums_of_their_own_and_share_buckets(written):
    recorder = written.recorder()
    lag = LAGS["reaction_time_ms"]
    recorder.time(lag, [0.02], "0")
    recorder.time(lag, [0.04, 0.04], "1")
    recorder.flush()
    assert written.value("raygym_reaction_time_count", slot="0") == 1.0
    assert written.value("raygym_reaction_time_count", slot="1") == 2.0
    assert written.value("raygym_reaction_time_bucket", le="0.04") == 3.0
    assert "slot" not in written.tags("raygym_reaction_time_bucket").pop()


def test_buckets_keep_tags_that_are_not_the_recorders(written):
    recorder = written.recorder({})
    recorder.time(GRANT_LATENCY, [0.2], "flashgames")
    recorder.time(GRANT_LATENCY, [0.2], "wob")
    recorder.flush()
    assert written.value("raygym_grant_latency_bucket", runtime="wob", le="0.25") == 1.0


def test_the_same_time_counts_as_often_as_it_is_said(written):
    recorder = written.recorder()
    recorder.time_alike(STEP_LATENCY, 0.004, 8)
    recorder.flush()
    assert written.value("raygym_step_latency_count") == 8.0
    assert written.value("raygym_step_latency_sum_seconds") == pytest.approx(0.032)
    assert written.value("raygym_step_latency_bucket", le="0.002") == 0.0
    assert written.value("raygym_step_latency_bucket", le="0.005") == 8.0


def test_nothing_is_lost_between_threads_that_add_and_one_that_flushes(written):
    recorder = written.recorder()
    is_over = threading.Event()

    def add() -> None:
        for _ in range(5000):
            recorder.add("raygym_frames")
            recorder.time_alike(STEP_LATENCY, 0.01, 2)

    def flush() -> None:
        while not is_over.is_set():
            recorder.flush()

    adding = [threading.Thread(target=add) for _ in range(3)]
    flushing = threading.Thread(target=flush)
    for thread in (flushing, *adding):
        thread.start()
    for thread in adding:
        thread.join(30)
    is_over.set()
    flushing.join(30)
    recorder.flush()
    assert written.value("raygym_frames") == 15_000.0
    assert written.value("raygym_step_latency_count") == 30_000.0
    assert written.value("raygym_step_latency_bucket", le="+Inf") == 30_000.0


def test_a_missing_tag_is_refused(written):
    recorder = written.recorder()
    recorder.add("raygym_env_steps")
    with pytest.raises(ValueError, match="zip"):
        recorder.flush()
