from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from raygym.errors import RemoteUnreachable
from raygym.leases.file_registry import FileRegistry
from raygym.leases.protocols import Found, Holder, Lease, Want
from raygym.leases.reaper import reap
from tests.support.fake_store import FakeClock, FakeStore

WANT = Want(client_id="worker-0", runtime="flashgames", holder=Holder.this_process(), ttl_s=15.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock) -> FakeStore:
    return FakeStore(clock)


@pytest.fixture
def registry(tmp_path, clock) -> FileRegistry:
    return FileRegistry(tmp_path, clock=clock)


class LastingStore(FakeStore):
    """Containers that do not end by themselves, and whatever else a survey is to show."""

    def __init__(self, *lone: Found) -> None:
        super().__init__(clock=lambda: 0.0)
        self.lone = lone

    def survey(self, cluster: str | None) -> Sequence[Found]:
        return [*super().survey(cluster), *self.lone]


def make(store: FakeStore, lease: Lease, cluster: str = "local") -> None:
    store.create(
        lease.remote_id,
        lease.runtime,
        client_id=lease.client_id,
        variant=lease.variant,
        cluster=cluster,
        lease=lease.as_file(),
    )


def test_what_is_held_stays(store, registry, clock):
    make(store, registry.grant(WANT))
    assert reap(store, registry, now_s=clock()) == []
    assert store.removed == []


def test_what_is_being_made_stays(store, registry, clock):
    registry.grant(WANT)
    assert reap(store, registry, now_s=clock()) == []
    assert len(registry.rows()) == 1


def test_what_is_held_stays_though_its_lease_file_was_not_renewed(registry, clock):
    store = LastingStore()
    lease = registry.grant(WANT)
    make(store, lease)
    clock.pass_s(10)
    registry.renew(lease)
    clock.pass_s(10)
    assert reap(store, registry, now_s=clock()) == []


def test_a_container_whose_row_ran_out_goes_with_it(registry, clock):
    store = LastingStore()
    lease = registry.grant(WANT)
    make(store, lease)
    clock.pass_s(15)
    assert reap(store, registry, now_s=clock()) == [lease.remote_id]
    assert store.running() == []
    assert list(registry.rows()) == []


def test_a_container_without_a_row_stays_for_as_long_as_its_lease_counts(registry, clock):
    store = LastingStore()
    lease = registry.grant(WANT)
    make(store, lease)
    registry.forget(lease.remote_id, lease.token)
    assert reap(store, registry, now_s=clock() + 14.9) == []
    assert reap(store, registry, now_s=clock() + 15) == [lease.remote_id]


@pytest.mark.parametrize("expires_s", [float("inf"), float("nan")])
def test_a_lease_that_would_never_end_keeps_no_container(registry, clock, expires_s):
    store = LastingStore()
    lease = registry.grant(WANT)
    make(store, replace(lease, expires_s=expires_s))
    registry.forget(lease.remote_id, lease.token)
    assert reap(store, registry, now_s=clock()) == [lease.remote_id]


def test_containers_of_another_cluster_are_left_alone(registry, clock):
    store = LastingStore()
    lease = registry.grant(WANT)
    make(store, lease, cluster="default")
    registry.forget(lease.remote_id, lease.token)
    assert reap(store, registry, now_s=clock() + 3600) == []
    assert store.running() == [lease.remote_id]


def bare(directory, state: str = "gone") -> Found:
    return Found(
        remote_id="r-bare",
        cluster="",
        runtime="",
        variant=(),
        first_client="",
        created="",
        state=state,
        directory=directory,
        lease=None,
    )


@pytest.mark.parametrize(("age_s", "goes"), [(0.0, False), (59.0, False), (61.0, True)])
def test_a_directory_alone_goes_once_nothing_can_start_in_it(
    tmp_path, registry, clock, age_s, goes
):
    directory = tmp_path / "r-bare"
    directory.mkdir()
    os.utime(directory, (clock() - age_s, clock() - age_s))
    store = LastingStore(bare(directory))
    assert reap(store, registry, now_s=clock()) == (["r-bare"] if goes else [])


def test_a_directory_that_is_gone_already_is_nothing_to_reap(tmp_path, registry, clock):
    assert reap(LastingStore(bare(tmp_path / "r-bare")), registry, now_s=clock()) == []


def test_a_container_without_a_row_and_without_a_lease_goes(tmp_path, registry, clock):
    store = LastingStore(bare(tmp_path, state="exited"))
    assert reap(store, registry, now_s=clock()) == ["r-bare"]


@pytest.mark.parametrize(
    ("state", "goes"), [("running", False), ("created", False), ("dead", True)]
)
def test_what_runs_and_shows_no_lease_to_this_machine_is_left_to_end_by_itself(
    registry, clock, state, goes
):
    store = LastingStore(bare(None, state=state))
    assert reap(store, registry, now_s=clock()) == (["r-bare"] if goes else [])


def test_one_that_cannot_be_removed_does_not_save_the_next(registry, clock, caplog):
    store = LastingStore()
    leases = [registry.grant(replace(WANT, client_id=f"worker-{n}")) for n in range(2)]
    for lease in leases:
        make(store, lease)
    store.failures["remove"] = [RemoteUnreachable("the engine is away")]
    clock.pass_s(15)
    assert reap(store, registry, now_s=clock()) == [leases[1].remote_id]
    assert f"remote.not_reaped remote_id={leases[0].remote_id}" in caplog.text
    assert reap(store, registry, now_s=clock()) == [leases[0].remote_id]


def test_what_was_started_after_the_survey_stays(registry, clock):
    class Busy(LastingStore):
        def survey(self, cluster):
            found = super().survey(cluster)
            self.lease = registry.grant(WANT)
            make(self, self.lease)
            return found

    store = Busy()
    assert reap(store, registry, now_s=clock()) == []
    assert store.running() == [store.lease.remote_id]
