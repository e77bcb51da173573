from __future__ import annotations

import pytest

from raygym.errors import LeaseExpired
from raygym.leases.file_registry import FileRegistry
from raygym.leases.holding import Holding
from raygym.leases.protocols import Holder, Lease, Want
from tests.support.fake_store import FakeClock, FakeStore

HERE = Holder.this_process()
WANT = Want(client_id="worker-0", runtime="flashgames", holder=HERE)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock) -> FakeStore:
    return FakeStore(clock)


@pytest.fixture
def registry(tmp_path, clock) -> FileRegistry:
    return FileRegistry(tmp_path, clock=clock)


@pytest.fixture
def holding(store, registry, clock) -> Holding:
    return Holding(store, registry, clock)


def hold(holding: Holding, store: FakeStore, lease: Lease) -> None:
    holding.add(lease)
    holding.confirm(
        store.create(
            lease.remote_id,
            lease.runtime,
            client_id=lease.client_id,
            variant=lease.variant,
            cluster="local",
            lease=lease.as_file(),
        )
    )


def test_a_spare_that_this_process_hands_to_itself_meanwhile_stays_held(
    holding, store, registry, monkeypatch
):
    hold(holding, store, registry.add_spare("flashgames", (), HERE, 15.0))
    renew = registry.renew

    def renew_after_a_grant(lease: Lease) -> Lease:
        monkeypatch.undo()
        hold(holding, store, registry.grant(WANT))
        return renew(lease)

    monkeypatch.setattr(registry, "renew", renew_after_a_grant)
    holding.renew()
    assert holding.holds("worker-0", "flashgames") is not None
    assert holding.spares("flashgames") == 0
    assert len(holding.remotes()) == 1


def test_what_is_being_made_is_held_and_not_listed(holding, registry):
    lease = registry.grant(WANT)
    holding.add(lease)
    assert list(holding.ids()) == [lease.remote_id]
    assert holding.remotes() == []
    assert holding.holds("worker-0", "flashgames") == lease.remote_id
    assert holding.holds("worker-0", "wob") is None


def test_a_lease_file_that_is_not_there_yet_is_no_cause_for_a_warning(holding, registry, caplog):
    holding.add(registry.grant(WANT))
    holding.renew()
    assert caplog.text == ""


def test_a_lease_file_that_cannot_be_written_is(holding, store, registry, caplog):
    lease = registry.grant(WANT)
    hold(holding, store, lease)
    store.kill(lease.remote_id)
    holding.renew()
    assert f"lease.not_written remote_id={lease.remote_id}" in caplog.text
    assert list(holding.ids()) == [lease.remote_id]


def test_a_remote_whose_lease_was_dropped_meanwhile_is_not_confirmed(holding, store, registry):
    lease = registry.grant(WANT)
    holding.add(lease)
    holding.remove(lease.remote_id)
    remote = store.create(
        lease.remote_id,
        "flashgames",
        client_id="worker-0",
        variant=(),
        cluster="local",
        lease=lease.as_file(),
    )
    with pytest.raises(LeaseExpired, match="lost while it started"):
        holding.confirm(remote)


def test_releasing_what_is_being_made_removes_it(holding, store, registry):
    lease = registry.grant(WANT)
    holding.add(lease)
    holding.release(lease.remote_id)
    assert store.removed == [lease.remote_id]
    assert list(registry.rows()) == []


def test_a_lease_that_ended_twice_is_ended_once(holding, store, registry):
    lease = registry.grant(WANT)
    hold(holding, store, lease)
    holding.remove(lease.remote_id)
    holding.remove(lease.remote_id)
    holding.release(lease.remote_id)
    assert store.removed == [lease.remote_id]
