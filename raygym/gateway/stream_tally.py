"""Counts what goes through the streams of a gateway."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter

from raygym.gateway.status import StreamCounts

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""Upper bounds of round trips, in seconds; the last bucket has none."""


class StreamTally:
    """Counts of one gateway; they only grow, but for ``open``."""

    def __init__(self) -> None:
        self.open = 0
        """Streams that are open now."""
        self.opened = 0
        """Streams that were opened so far."""
        self.refused: Counter[str] = Counter()
        """Streams and requests that were refused or broken off, by gRPC status."""
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._round_trip_s = 0.0
        self._request_bytes = 0
        self._answer_bytes = 0

    def add(self, seconds: float, request_bytes: int, answer_bytes: int) -> None:
        """Counts a request that a remote answered."""
        self._buckets[bisect.bisect_left(BUCKETS_S, seconds)] += 1
        self._round_trip_s += seconds
        self._request_bytes += request_bytes
        self._answer_bytes += answer_bytes

    def counts(self) -> StreamCounts:
        """Returns all of them."""
        cumulative = list(itertools.accumulate(self._buckets))
        return StreamCounts(
            open=self.open,
            opened=self.opened,
            round_trips=cumulative[-1],
            round_trip_s=self._round_trip_s,
            round_trip_buckets=dict(zip((*BUCKETS_S, math.inf), cumulative, strict=True)),
            request_bytes=self._request_bytes,
            answer_bytes=self._answer_bytes,
            refused=dict(self.refused),
        )
