from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from raygym.gateway.http_front import HttpConfig
from raygym.gateway.http_metrics import GatewayMetrics
from raygym.gateway.status import GatewayStatus, StreamCounts
from tests.support.http_gateway import (
    AT_ONCE,
    TOKEN,
    HttpGateway,
    http_gateway,
    two_tenants,
    wait_for,
)

DOCS = Path(__file__).parents[3] / "docs" / "gateway_http.md"


def samples(gateway: HttpGateway, token: str = "") -> dict[str, float]:
    """Returns what /metrics says, by name and labels."""
    answer = gateway.ask("GET", "/metrics", token=token)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('raygym_gateway_')}{{{labels}}}"] = sample.value
    return found


def test_a_lease_is_seen_from_its_start_to_its_end() -> None:
    with http_gateway(tenants=two_tenants(), slots=2) as gateway:
        (entry,) = gateway.allocate("me", token=TOKEN)
        seen = samples(gateway, TOKEN)
        assert seen["slots{}"] == 2
        assert seen["slots_used{}"] == 1
        assert seen["leases{mode=realtime,tenant=anna}"] == 1
        assert seen["allocations{status=allocated}"] == 1
        assert seen["leases_granted_total{}"] == seen["remotes_started_total{}"] == 1
        gateway.ask("DELETE", f"/v1/allocations/me?name={entry['name']}", token=TOKEN)
        seen = samples(gateway, TOKEN)
        assert seen["slots_used{}"] == 0
        assert "leases{mode=realtime,tenant=anna}" not in seen
        assert seen["leases_given_back_total{}"] == 1
        assert seen["allocations_ended_total{cause=given_back}"] == 1


def test_the_queue_and_refusals_are_seen() -> None:
    with http_gateway(slots=1, config=AT_ONCE) as gateway:
        gateway.allocate("first")
        gateway.allocate("me")
        gateway.clock.now_s += 7
        wait_for(lambda: samples(gateway).get("allocations{status=allocated}") == 1)
        seen = samples(gateway)
        assert seen["queue_clients{}"] == 1
        assert seen["queue_longest_wait_seconds{}"] == 7
        assert seen["allocations{status=pending}"] == 1
    with http_gateway(slots=1, queue_timeout_s=0) as gateway:
        gateway.allocate("first")
        gateway.allocate("me")
        assert samples(gateway)["refusals_total{cause=slots}"] == 1


def test_an_expired_allocation_is_counted_as_such() -> None:
    with http_gateway(config=HttpConfig(ttl_s=5)) as gateway:
        gateway.allocate("me")
        gateway.clock.now_s += 5
        gateway.sweep()
        assert samples(gateway)["allocations_ended_total{cause=expired}"] == 1


def test_requests_are_counted_by_route_without_names_of_clients() -> None:
    with http_gateway() as gateway:
        gateway.allocate("secret-name")
        gateway.ask("POST", "/v1/allocations/secret-name", {"names": []})
        gateway.ask("GET", "/nothing")
        seen = samples(gateway)
        assert seen["http_requests_total{route=/v1/allocations,status=200}"] == 1
        assert seen["http_requests_total{route=/v1/allocations/{client},status=200}"] == 1
        assert seen["http_requests_total{route=other,status=404}"] == 1
        assert seen["http_request_seconds_count{route=other}"] == 1
        assert seen["http_request_seconds_bucket{le=+Inf,route=other}"] == 1
        assert not any("secret-name" in name for name in seen)


def test_streams_and_their_round_trips_are_told() -> None:
    streams = StreamCounts(
        open=2,
        opened=5,
        round_trips=4,
        round_trip_s=1.5,
        round_trip_buckets={0.001: 1, 0.5: 3},
        request_bytes=10,
        answer_bytes=20,
        refused={"RESOURCE_EXHAUSTED": 3},
    )
    status = GatewayStatus(slots=1, used=0, starting=0, idle=0, streams=streams)
    with http_gateway() as gateway:
        text = GatewayMetrics(lambda: status, gateway.front.allocator).text().decode()
    for line in (
        "raygym_gateway_streams 2.0",
        "raygym_gateway_streams_opened_total 5.0",
        'raygym_gateway_stream_bytes_total{direction="answer"} 20.0',
        'raygym_gateway_stream_refusals_total{status="RESOURCE_EXHAUSTED"} 3.0',
        'raygym_gateway_round_trip_seconds_bucket{le="0.001"} 1.0',
        'raygym_gateway_round_trip_seconds_bucket{le="0.5"} 3.0',
        'raygym_gateway_round_trip_seconds_bucket{le="+Inf"} 4.0',
        "raygym_gateway_round_trip_seconds_sum 1.5",
    ):
        assert f"\n{line}\n" in text


def test_every_name_is_documented_and_no_other() -> None:
    with http_gateway() as gateway:
        text = gateway.ask("GET", "/metrics").text
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
    }
    documented = set(re.findall(r"^\| `(raygym_gateway_\w+)", DOCS.read_text(), re.MULTILINE))
    assert told == documented


def test_two_gateways_of_one_process_keep_their_figures_apart() -> None:
    with http_gateway(slots=3) as one, http_gateway(slots=5) as other:
        one.allocate("me")
        assert (samples(one)["slots{}"], samples(one)["slots_used{}"]) == (3, 1)
        assert (samples(other)["slots{}"], samples(other)["slots_used{}"]) == (5, 0)
