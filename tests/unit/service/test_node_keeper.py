from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raygym.errors import MissingDependency, RemoteUnreachable
from raygym.leases.protocols import LeaseFile
from raygym.remote_env.lease_file import write_lease
from raygym.service.node_keeper import LATE_S, SETTLE_S, NodeKeeper
from tests.support.clocks import Clock
from tests.support.directory_store import DirectoryStore
from tests.support.node_keepers import ended, lease_file, living

CLUSTER = "default"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def keep(store: DirectoryStore, clock: Clock) -> Callable[..., NodeKeeper]:
    """Makes a keeper of the node n1 without a loop."""
    return functools.partial(
        NodeKeeper, lambda: store, "n1", CLUSTER, reap_every_s=None, clock=clock
    )


def create(to: Any, remote_id: str, lease: LeaseFile, *, cluster: str = CLUSTER) -> Any:
    return to.create(
        remote_id, "flashgames", client_id="a", variant=(), cluster=cluster, lease=lease
    )


def test_at_its_start_it_removes_what_no_lease_of_its_cluster_names(keep, store, clock, tmp_path):
    create(store, "r-live", lease_file(clock.now_s + 1))
    create(store, "r-ended", lease_file(clock.now_s - LATE_S))
    create(store, "r-others", lease_file(clock.now_s - 1000), cluster="other")
    (tmp_path / "r-lone").mkdir()
    write_lease(tmp_path / "r-lone", lease_file(clock.now_s - 1000))
    keep()
    assert store.running() == ["r-live", "r-others"]
    assert not (tmp_path / "r-lone").exists()


def test_a_lease_that_just_ended_may_still_be_renewed(keep, store, clock):
    create(store, "r-1", lease_file(clock.now_s))
    clock.now_s += LATE_S - 0.01
    keeper = keep()
    assert store.running() == ["r-1"]
    clock.now_s += 0.01
    assert keeper.reap() == ["r-1"]
    assert store.running() == []


def test_what_has_no_lease_is_left_for_a_while_first(keep, store, clock, tmp_path):
    create(store, "r-1", lease_file(clock.now_s))
    (tmp_path / "r-1" / "lease.json").unlink()
    (tmp_path / "r-2").mkdir()
    keeper = keep()
    clock.now_s += SETTLE_S - 0.01
    assert keeper.reap() == []
    write_lease(tmp_path / "r-2", lease_file(clock.now_s + 100))
    clock.now_s += 0.01
    assert keeper.reap() == ["r-1"]
    (tmp_path / "r-2" / "lease.json").unlink()
    assert keeper.reap() == [], "its time without a lease starts anew"


def test_what_lost_its_lease_long_ago_is_removed_at_the_start(keep, clock, tmp_path):
    (tmp_path / "r-1").mkdir()
    os.utime(tmp_path / "r-1", (clock.now_s, clock.now_s - SETTLE_S))
    (tmp_path / "r-2").mkdir()
    os.utime(tmp_path / "r-2", (clock.now_s, clock.now_s - SETTLE_S + 0.01))
    keep()
    assert [path.name for path in tmp_path.iterdir()] == ["r-2"]


def test_a_lease_that_never_ends_is_none(keep, store, clock):
    create(store, "r-1", lease_file(math.inf))
    create(store, "r-2", lease_file(math.nan))
    keep()
    assert store.running() == []


def test_what_is_in_the_making_is_not_reaped(keep, store, clock, monkeypatch):
    keeper = keep()
    is_making, may_end = threading.Event(), threading.Event()
    make = store.create

    def make_slowly(*arguments: Any, **options: Any) -> Any:
        remote = make(*arguments, **options)
        is_making.set()
        assert may_end.wait(30)
        return remote

    monkeypatch.setattr(store, "create", make_slowly)
    thread = threading.Thread(target=create, args=(keeper, "r-1", lease_file(clock.now_s - 100)))
    thread.start()
    try:
        assert is_making.wait(30)
        assert keeper.reap() == []
    finally:
        may_end.set()
        thread.join(30)
    assert keeper.reap() == ["r-1"]


def test_a_create_that_failed_is_not_in_the_making_any_more(keep, store, clock, monkeypatch):
    keeper = keep()
    monkeypatch.setattr(store, "_boot_s", -1.0)
    with pytest.raises(ValueError, match="non-negative"):
        create(keeper, "r-1", lease_file(clock.now_s - 100))
    assert keeper.reap() == ["r-1"]


def test_it_passes_on_what_its_store_can(keep, store, clock):
    keeper = keep()
    remote = create(keeper, "r-1", lease_file(clock.now_s + 10))
    assert create(keeper, "r-1", lease_file(clock.now_s + 10)) == remote
    assert store.made() == ["r-1"]
    assert keeper.adopt("r-1") == remote
    keeper.write_lease("r-1", lease_file(clock.now_s + 20, token=2))
    [found] = keeper.survey(CLUSTER)
    assert (found.remote_id, found.lease.token) == ("r-1", 2)
    assert keeper.log_tail("r-1", lines=5) == "log of r-1"
    keeper.remove("r-1")
    keeper.remove("r-1")
    with pytest.raises(RemoteUnreachable):
        keeper.adopt("r-1")


def test_a_holder_that_a_survey_finds_is_of_this_node(keep, store, clock):
    create(store, "r-1", lease_file(clock.now_s + 10, holder=living("node-of-an-older-ray")))
    [found] = keep().survey(CLUSTER)
    assert found.lease.holder == dict(vars(living("n1")))


def test_it_tells_the_dead_of_its_own_node_only(keep):
    keeper = keep()
    assert keeper.is_dead(ended("n1"))
    assert not keeper.is_dead(ended("n2"))
    assert not keeper.is_dead(living("n1"))


def test_without_an_engine_it_says_so_with_each_call_until_there_is_one(store, clock, caplog):
    is_there = False

    def connect() -> DirectoryStore:
        if not is_there:
            raise MissingDependency("no engine answers")
        return store

    create(store, "r-1", lease_file(clock.now_s - 100))
    keeper = NodeKeeper(connect, "n1", CLUSTER, reap_every_s=None, clock=clock)
    with pytest.raises(MissingDependency):
        keeper.adopt("r-1")
    with pytest.raises(MissingDependency):
        keeper.reap()
    assert not keeper.is_dead(living("n1"))
    assert caplog.text.count("no engine answers") == 1
    is_there = True
    assert keeper.reap() == ["r-1"]


def test_its_loop_reaps_and_survives_errors(store, clock, monkeypatch):
    look = store.survey
    problems: list[Exception] = [MissingDependency("engine is gone"), ValueError("a bug")]

    def survey(cluster: str | None) -> Any:
        if problems:
            raise problems.pop()
        return look(cluster)

    monkeypatch.setattr(store, "survey", survey)
    create(store, "r-1", lease_file(clock.now_s + 100))
    keeper = NodeKeeper(lambda: store, "n1", CLUSTER, reap_every_s=0.01, clock=clock)
    clock.now_s += 100 + LATE_S
    deadline_s = time.monotonic() + 30
    while store.running():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert not problems
    keeper.close()
    keeper.close()
