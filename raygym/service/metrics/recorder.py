"""Counts in this process, and hands the counts to Ray's metrics now and then."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ray.util.metrics import Counter, Gauge

from raygym.service.metrics.specs import SPECS, Spec, Timing

FLUSH_EVERY_S = 2.0


class Instrument(Protocol):
    """Where the values of one metric go."""

    def write(self, value: float, tags: Mapping[str, str]) -> None:
        """Adds to a counter, or sets a gauge."""
        ...


class _RayCounter(Counter):
    def write(self, value: float, tags: Mapping[str, str]) -> None:
        # ``inc`` refuses 0, but a series that begins with its first event hides it from rate().
        self._record(value, dict(tags))


class _RayGauge(Gauge):
    def write(self, value: float, tags: Mapping[str, str]) -> None:
        self.set(value, dict(tags))


def ray_instrument(spec: Spec) -> Instrument:
    """Returns where Ray takes the values of a metric."""
    made = _RayCounter if spec.kind == "counter" else _RayGauge
    return made(spec.name, spec.meaning, spec.tags)


@dataclass
class _Times:
    """Measured times since the last flush."""

    timing: Timing
    counts: list[int]
    """How many up to each bound and above the one before, and above the last."""
    total_s: float = 0.0


class Recorder:
    """Keeps what was counted until ``flush``, which costs about 4 us a series.

    Safe to use from several threads. A gauge is written again with each flush.

    Args:
        tags: What all its metrics are tagged with, as far as they have such tags.
        flush_every_s: Least time between two flushes that ``is_due`` asks for.
        instrument: Where values go.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        tags: Mapping[str, str] | None = None,
        *,
        flush_every_s: float = FLUSH_EVERY_S,
        instrument: Callable[[Spec], Instrument] = ray_instrument,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tags = dict(tags or {})
        self._flush_every_s = flush_every_s
        self._make = instrument
        self._clock = clock
        self._due_s = clock() + flush_every_s
        self._instruments: dict[str, Instrument] = {}
        self._added: dict[tuple[str, tuple[str, ...]], float] = {}
        self._set: dict[tuple[str, tuple[str, ...]], float] = {}
        self._timed: dict[tuple[str, tuple[str, ...]], _Times] = {}
        self._lock = threading.Lock()

    def add(self, name: str, amount: float = 1.0, *own: str) -> None:
        """Adds to a counter; 0.0 makes its series begin.

        Args:
            name: Of the metric.
            amount: 0.0 or more.
            *own: Values of the tags that are not the recorder's, in the order of the metric.
        """
        key = (name, own)
        with self._lock:
            self._added[key] = self._added.get(key, 0.0) + amount

    def set(self, name: str, value: float, *own: str) -> None:
        """Sets a gauge; see ``add``."""
        with self._lock:
            self._set[name, own] = value

    def time(self, timing: Timing, seconds: Sequence[float], *own: str) -> None:
        """Adds measured times.

        Args:
            timing: Which.
            seconds: They; none makes its series begin.
            *own: As in ``add``, for number and sum; buckets have none but a metric without
                tags of the recorder.
        """
        bounds_s = timing.bounds_s
        with self._lock:
            times = self._times_of(timing, own)
            for one_s in seconds:
                times.counts[bisect.bisect_left(bounds_s, one_s)] += 1
            times.total_s += sum(seconds)

    def time_alike(self, timing: Timing, seconds: float, count: int, *own: str) -> None:
        """Adds the same time ``count`` times; see ``time``."""
        with self._lock:
            times = self._times_of(timing, own)
            times.counts[bisect.bisect_left(timing.bounds_s, seconds)] += count
            times.total_s += count * seconds

    @property
    def is_due(self) -> bool:
        """Whether the last flush was long enough ago."""
        return self._clock() >= self._due_s

    def flush_if_due(self) -> None:
        """Flushes if the last time was long enough ago."""
        if self.is_due:
            self.flush()

    def flush(self) -> None:
        """Hands everything to Ray."""
        with self._lock:
            timed, self._timed = self._timed, {}
            for (_, own), times in timed.items():
                self._add_times(times, own)
            added, self._added = self._added, {}
            self._due_s = self._clock() + self._flush_every_s
            writes = [
                (self._instrument(name), value, self._tagged(SPECS[name], own))
                for (name, own), value in (*added.items(), *self._set.items())
            ]
        for instrument, value, tags in writes:
            instrument.write(value, tags)

    def _times_of(self, timing: Timing, own: tuple[str, ...]) -> _Times:
        key = (timing.name, own)
        if key not in self._timed:
            self._timed[key] = _Times(timing, [0] * (len(timing.bounds_s) + 1))
        return self._timed[key]

    def _add_times(self, times: _Times, own: tuple[str, ...]) -> None:
        """Turns times into their three counters. Called with the lock held."""
        timing, below = times.timing, 0
        amounts = {(timing.sum_name, own): times.total_s, (timing.count_name, own): 0.0}
        bucket_own = own if timing.bucket_tags == timing.tags else ()
        bounds = (*(f"{bound:g}" for bound in timing.bounds_s), "+Inf")
        for bound, count in zip(bounds, times.counts, strict=True):
            below += count
            amounts[timing.bucket_name, (*bucket_own, bound)] = float(below)
        amounts[timing.count_name, own] = float(below)
        for key, amount in amounts.items():
            self._added[key] = self._added.get(key, 0.0) + amount

    def _tagged(self, spec: Spec, own: tuple[str, ...]) -> dict[str, str]:
        mine = {tag: self._tags[tag] for tag in spec.tags if tag in self._tags}
        others = [tag for tag in spec.tags if tag not in mine]
        return mine | dict(zip(others, own, strict=True))

    def _instrument(self, name: str) -> Instrument:
        if name not in self._instruments:
            self._instruments[name] = self._make(SPECS[name])
        return self._instruments[name]
