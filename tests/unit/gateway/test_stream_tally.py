from __future__ import annotations

import math

from raygym.gateway.stream_tally import BUCKETS_S, StreamTally


def test_round_trips_are_counted_in_every_bucket_that_they_fit() -> None:
    tally = StreamTally()
    for seconds in (0.0005, 0.0006, 100.0):
        tally.add(seconds, 3, 5)
    counts = tally.counts()
    assert counts.round_trips == 3
    assert counts.round_trip_s == 0.0005 + 0.0006 + 100.0
    assert (counts.request_bytes, counts.answer_bytes) == (9, 15)
    assert counts.round_trip_buckets[0.0005] == 1
    assert counts.round_trip_buckets[0.001] == counts.round_trip_buckets[30.0] == 2
    assert counts.round_trip_buckets[math.inf] == 3
    assert tuple(counts.round_trip_buckets) == (*BUCKETS_S, math.inf)


def test_counts_are_a_snapshot() -> None:
    tally = StreamTally()
    tally.refused["UNAVAILABLE"] += 1
    before = tally.counts()
    tally.refused["UNAVAILABLE"] += 1
    assert before.refused == {"UNAVAILABLE": 1}
