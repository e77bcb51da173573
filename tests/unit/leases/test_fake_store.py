from __future__ import annotations

from dataclasses import replace

import pytest

from raygym.errors import RemoteUnreachable
from raygym.leases.protocols import LeaseFile, Store
from tests.support.fake_store import FakeClock, FakeStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
def store(clock) -> FakeStore:
    return FakeStore(clock)


def lease(expires_unix_s: float = 1015.0) -> LeaseFile:
    return LeaseFile(
        token=1, client_id="worker-0", runtime="wob", expires_unix_s=expires_unix_s, keep_s=0.0
    )


def make(store: Store, remote_id: str = "r-1", cluster: str = "local"):
    return store.create(
        remote_id, "wob", client_id="worker-0", variant=(), cluster=cluster, lease=lease()
    )


def test_a_container_is_there_from_create_to_remove(store):
    remote = make(store)
    assert (remote.id, remote.runtime) == ("r-1", "wob")
    assert store.adopt("r-1") == remote
    assert "r-1" in store.log_tail("r-1")
    assert [found.remote_id for found in store.survey("local")] == ["r-1"]
    store.remove("r-1")
    store.remove("r-1")
    assert store.survey(None) == []
    assert store.log_tail("r-1") == ""
    with pytest.raises(RemoteUnreachable):
        store.adopt("r-1")


def test_a_create_that_was_sent_twice_makes_one_container(store):
    assert make(store) == make(store)
    assert store.created == ["r-1"]


def test_a_container_ends_with_its_lease_and_not_before(store, clock):
    make(store)
    clock.pass_s(14.9)
    store.write_lease("r-1", replace(lease(), expires_unix_s=1020.0))
    assert store.lease("r-1") == replace(lease(), expires_unix_s=1020.0)
    clock.pass_s(5.0)
    assert store.running() == ["r-1"]
    clock.pass_s(0.1)
    assert store.running() == []
    with pytest.raises(FileNotFoundError):
        store.write_lease("r-1", lease())


def test_a_survey_of_one_cluster_leaves_out_the_others(store):
    make(store)
    make(store, "r-2", "default")
    assert [found.remote_id for found in store.survey("default")] == ["r-2"]
    assert len(store.survey(None)) == 2


def test_a_killed_container_is_gone(store):
    make(store)
    store.kill("r-1")
    with pytest.raises(RemoteUnreachable):
        store.adopt("r-1")


def test_each_failure_is_raised_once(store):
    store.failures["create"] = [OSError("no disk")]
    with pytest.raises(OSError, match="no disk"):
        make(store)
    assert store.running() == []
    make(store)
