from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.errors import LeaseHeld, RemoteUnreachable, RuntimeMismatch
from raygym.leases.protocols import Lease, Want
from raygym.service import registry as registry_module
from raygym.service.metrics.lease_meters import KeeperMeters, RegistryMeters, state_of
from raygym.service.node_keeper import LATE_S, SETTLE_S, NodeKeeper
from raygym.service.registry import RegistryActor
from tests.support.clocks import Clock
from tests.support.directory_store import DirectoryStore
from tests.support.node_keepers import LocalKeepers, lease_file, living, other
from tests.support.written_metrics import WrittenMetrics

CLUSTER = "default"


@pytest.fixture
def written() -> WrittenMetrics:
    return WrittenMetrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path, clock: Clock, written: WrittenMetrics, monkeypatch) -> RegistryActor:
    """A registry of one node without a loop, whose metrics go to ``written``."""
    monkeypatch.setattr(registry_module, "DYING_S", 0.1)
    store = DirectoryStore(tmp_path)
    keeper = NodeKeeper(lambda: store, "n1", CLUSTER, reap_every_s=None, clock=clock)
    return RegistryActor(
        lambda: LocalKeepers({"n1": keeper}),
        CLUSTER,
        expire_every_s=None,
        clock=clock,
        meters=RegistryMeters(written.recorder({})),
    )


def want(client_id: str = "a", **options: object) -> Want:
    return replace(Want(client_id=client_id, runtime="flashgames", holder=living("n1")), **options)


def leases(registry: RegistryActor, written: WrittenMetrics) -> dict[str, float]:
    written.now_s += 3.0
    registry.expire()
    states = ("making", "held", "warm", "spare")
    return {state: written.value("raygym_leases", state=state, node="n1") for state in states}


def test_a_grant_is_counted_as_new_or_as_one_that_was_there_and_timed(registry, written):
    lease = registry.grant(want())
    registry.confirm(lease)
    registry.grant(want())
    registry.close()
    assert written.value("raygym_lease_grants", how="new", node="n1") == 1.0
    assert written.value("raygym_lease_grants", how="again", runtime="flashgames") == 1.0
    assert written.value("raygym_grant_latency_count", runtime="flashgames") == 2.0
    assert written.value("raygym_grant_latency_bucket", le="+Inf") == 2.0


def test_a_refusal_is_counted_by_its_error_and_not_timed(registry, written):
    registry.grant(want())
    with pytest.raises(LeaseHeld):
        registry.grant(want(holder=other("n1")))
    with pytest.raises(RuntimeMismatch):
        registry.grant(want(runtime="wob"))
    registry.close()
    assert written.value("raygym_lease_refusals", why="LeaseHeld") == 1.0
    assert written.value("raygym_lease_refusals", why="RuntimeMismatch", runtime="wob") == 1.0
    assert written.value("raygym_grant_latency_count") == 1.0


def test_both_kinds_of_refusal_and_of_grant_are_there_from_the_first_grant_on(registry, written):
    registry.grant(want())
    registry.close()
    assert written.value("raygym_lease_grants", how="again") == 0.0
    assert written.value("raygym_lease_refusals", why="LeaseHeld") == 0.0
    assert written.value("raygym_lease_refusals", why="RuntimeMismatch") == 0.0


def test_leases_are_counted_by_state_and_are_0_where_they_are_gone(registry, written, clock):
    lease = registry.grant(want("a"))
    registry.confirm(registry.grant(want("b")))
    spare = registry.add_spare("flashgames", (), living("n1"), 1000.0)
    registry.confirm(spare)
    assert leases(registry, written) == {"making": 1.0, "held": 1.0, "warm": 0.0, "spare": 1.0}
    registry.confirm(lease)
    registry.release(lease)
    assert leases(registry, written)["warm"] == 1.0
    clock.now_s += 2000.0
    assert set(leases(registry, written).values()) == {0.0}
    assert written.value("raygym_leases_expired", node="n1") == 3.0


def test_expired_leases_begin_with_0_as_soon_as_there_is_one(registry, written):
    registry.grant(want())
    registry.expire()
    registry.close()
    assert written.value("raygym_leases_expired", runtime="flashgames", node="n1") == 0.0


def test_they_are_handed_over_while_the_registry_looks_for_what_expired(registry, written):
    registry.grant(want())
    written.now_s = 3.0
    registry.expire()
    assert written.value("raygym_leases", state="making") == 1.0


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"is_ready": False}, "making"),
        ({"is_ready": False, "client_id": ""}, "making"),
        ({}, "held"),
        ({"holder": None}, "warm"),
        ({"client_id": ""}, "spare"),
    ],
)
def test_a_lease_is_in_one_state(changes, state):
    lease = Lease(
        remote_id="r-1",
        client_id="a",
        runtime="flashgames",
        variant=(),
        env_id=None,
        node="n1",
        token=1,
        holder=living("n1"),
        granted_s=0.0,
        renewed_s=0.0,
        expires_s=15.0,
        ttl_s=15.0,
        keep_s=60.0,
        is_ready=True,
    )
    assert state_of(replace(lease, **changes)) == state


def create(store: DirectoryStore, remote_id: str, expires_s: float) -> None:
    store.create(
        remote_id,
        "flashgames",
        client_id="a",
        variant=(),
        cluster=CLUSTER,
        lease=lease_file(expires_s),
    )


def test_a_keeper_counts_containers_orphans_and_what_it_removed(tmp_path, clock, written):
    store = DirectoryStore(tmp_path)
    create(store, "r-live", clock.now_s + 1000)
    create(store, "r-stray", clock.now_s - LATE_S)
    (tmp_path / "r-lone").mkdir()
    os.utime(tmp_path / "r-lone", (clock.now_s, clock.now_s - SETTLE_S))
    written.now_s = 0.0
    meters = KeeperMeters("n1", written.recorder({"node": "n1"}))
    written.now_s = 3.0
    keeper = NodeKeeper(lambda: store, "n1", CLUSTER, reap_every_s=None, clock=clock, meters=meters)
    assert written.value("raygym_containers", node="n1") == 2.0
    assert written.value("raygym_orphans", node="n1") == 2.0
    assert written.value("raygym_reaped", node="n1") == 2.0
    keeper.reap()
    written.now_s = 6.0
    meters.done(has_failed=False)
    assert written.value("raygym_containers") == 1.0
    assert written.value("raygym_orphans") == 0.0
    assert written.value("raygym_reap_failures") == 0.0


def test_an_orphan_that_cannot_be_removed_stays_one_and_the_look_failed(
    tmp_path, clock, written, monkeypatch
):
    store = DirectoryStore(tmp_path)
    create(store, "r-stray", clock.now_s - LATE_S)

    def refuse(_remote_id: str) -> None:
        raise RemoteUnreachable("the engine does not answer")

    monkeypatch.setattr(store, "remove", refuse)
    meters = KeeperMeters("n1", written.recorder({"node": "n1"}))
    written.now_s = 3.0
    NodeKeeper(lambda: store, "n1", CLUSTER, reap_every_s=None, clock=clock, meters=meters)
    assert written.value("raygym_orphans") == 1.0
    assert written.value("raygym_reaped") == 0.0
    assert written.value("raygym_reap_failures") == 1.0
