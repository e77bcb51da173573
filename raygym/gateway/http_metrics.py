"""What Prometheus reads from a gateway; docs/gateway_http.md lists the names."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from raygym.gateway.allocator import Allocator
from raygym.gateway.status import GatewayStatus, StreamCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what ``GatewayMetrics.text`` returns."""

_PREFIX = "raygym_gateway_"
_BOUNDS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, float("inf"))


@dataclass
class _Requests:
    """The requests of one route."""

    by_status: Counter[str] = field(default_factory=Counter)
    within_s: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0


class GatewayMetrics:
    """All figures of one gateway, in a registry of its own.

    Args:
        status: What the gateway does right now.
        allocator: Whose allocations are counted.
    """

    def __init__(self, status: Callable[[], GatewayStatus], allocator: Allocator) -> None:
        self._requests: dict[str, _Requests] = defaultdict(_Requests)
        self._registry = CollectorRegistry()
        self._registry.register(_GatewayCollector(status, allocator, self._requests))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            route: Its pattern, without names of clients.
            status: Of the answer.
            seconds: How long it took.
        """
        requests = self._requests[route]
        requests.by_status[str(status)] += 1
        requests.seconds += seconds
        for bound_s in _BOUNDS_S:
            requests.within_s[bound_s] += seconds <= bound_s

    def text(self) -> bytes:
        """Returns everything as Prometheus reads it."""
        return generate_latest(self._registry)


class _GatewayCollector(Collector):
    """Reads a snapshot with each scrape."""

    def __init__(
        self,
        status: Callable[[], GatewayStatus],
        allocator: Allocator,
        requests: Mapping[str, _Requests],
    ) -> None:
        self._status = status
        self._allocator = allocator
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _slots(status)
        yield from _leases(status)
        yield from _streams(status.streams)
        yield from _allocations(self._allocator)
        yield from _http(self._requests)

    def describe(self) -> Iterator[Metric]:
        """Names nothing, so that registering takes no snapshot."""
        return iter(())


def _slots(status: GatewayStatus) -> Iterator[Metric]:
    yield _gauge("slots", "Most remotes at a time", status.slots)
    yield _gauge("slots_used", "Slots in use: leased, starting, being given back", status.used)
    yield _gauge("remotes_starting", "Remotes that are being started", status.starting)
    yield _gauge("remotes_idle", "Remotes kept for clients that may come again", status.idle)
    yield _gauge("queue_clients", "Clients that wait for a slot", len(status.waiting))
    longest_s = max((waiting.waited_s for waiting in status.waiting), default=0.0)
    yield _gauge("queue_longest_wait_seconds", "Longest wait in the queue now", longest_s)


def _leases(status: GatewayStatus) -> Iterator[Metric]:
    by_tenant = Counter((lease.tenant, lease.mode) for lease in status.leases)
    leases = GaugeMetricFamily(
        f"{_PREFIX}leases", "Remotes held by clients", labels=["tenant", "mode"]
    )
    for labels, count in sorted(by_tenant.items()):
        leases.add_metric(labels, count)
    yield leases
    yield _counter("leases_granted", "Leases granted", status.granted)
    yield _counter("leases_given_back", "Leases given back", status.given_back)
    yield _counter("remotes_started", "Remotes started", status.remotes_started)
    yield _counter("remotes_reused", "Leases served by a kept remote", status.remotes_reused)
    yield _counter("remotes_failed", "Remotes that did not start", status.remotes_failed)
    yield _counter("remotes_lost", "Remotes that broke while held", status.remotes_lost)
    yield _counters("refusals", "Clients that got no slot", "cause", status.refused)
    yield _counter("queue_left", "Clients that went away while they waited", status.gone_waiting)


def _streams(streams: StreamCounts) -> Iterator[Metric]:
    yield _gauge("streams", "gRPC streams open now", streams.open)
    yield _counter("streams_opened", "gRPC streams opened", streams.opened)
    yield _counters(
        "stream_bytes",
        "Bytes through gRPC streams",
        "direction",
        {"request": streams.request_bytes, "answer": streams.answer_bytes},
    )
    yield _counters(
        "stream_refusals", "gRPC streams refused or broken off", "status", streams.refused
    )
    round_trips = HistogramMetricFamily(
        f"{_PREFIX}round_trip_seconds", "From a request's arrival to its answer's departure"
    )
    within_s = {**streams.round_trip_buckets, float("inf"): streams.round_trips}
    round_trips.add_metric([], buckets=_buckets(within_s), sum_value=streams.round_trip_s)
    yield round_trips


def _http(requests: Mapping[str, _Requests]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        f"{_PREFIX}http_requests", "HTTP requests answered", labels=["route", "status"]
    )
    times = HistogramMetricFamily(
        f"{_PREFIX}http_request_seconds",
        "Time that HTTP requests took; those for allocations wait a second for remotes",
        labels=["route"],
    )
    for route, seen in sorted(requests.items()):
        for status, count in sorted(seen.by_status.items()):
            answered.add_metric([route, status], count)
        times.add_metric([route], buckets=_buckets(seen.within_s), sum_value=seen.seconds)
    yield answered
    yield times


def _allocations(allocator: Allocator) -> Iterator[Metric]:
    there = allocator.allocations()
    counts = allocator.counts
    by_status = Counter(allocation.status for allocation in there)
    allocations = GaugeMetricFamily(
        f"{_PREFIX}allocations", "Allocations over HTTP", labels=["status"]
    )
    for status in ("allocated", "failed", "pending"):
        allocations.add_metric([status], by_status[status])
    yield allocations
    yield _counter("allocations_created", "Allocations asked for", counts.created)
    ended = {
        "given_back": counts.given_back,
        "expired": counts.expired,
        "lost": counts.lost,
        "failed": counts.failed,
    }
    yield _counters("allocations_ended", "Allocations that ended", "cause", ended)
    forwards = [forward for allocation in there for forward in allocation.forwards.values()]
    open_now = sum(forward.connections for forward in forwards)
    opened = counts.connections + sum(forward.opened for forward in forwards)
    sent = counts.bytes["sent"] + sum(forward.sent_bytes for forward in forwards)
    received = counts.bytes["received"] + sum(forward.received_bytes for forward in forwards)
    yield _gauge("connections", "Connections to ports of remotes open now", open_now)
    yield _counter("connections_opened", "Connections to ports of remotes opened", opened)
    yield _counters(
        "connection_bytes",
        "Bytes through ports of remotes: sent to them, received from them",
        "direction",
        {"received": received, "sent": sent},
    )


def _buckets(within_s: Mapping[float, int]) -> list[tuple[str, float]]:
    return [
        ("+Inf" if math.isinf(bound_s) else f"{bound_s:g}", count)
        for bound_s, count in sorted(within_s.items())
    ]


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, meaning, value=value)


def _counters(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, meaning, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
