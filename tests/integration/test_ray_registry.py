from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorHandleNotFoundError

from raygym.errors import ConfigError, LeaseHeld
from raygym.leases.protocols import Lease
from raygym.service.detached import NAMESPACE
from raygym.service.leased import leased_backend_on_ray
from raygym.service.ray_registry import NAME, RayRegistry, RegistryUnreachable
from tests.support.directory_store import DirectoryStore
from tests.support.ray_holder import (
    LeaseHolder,
    is_running,
    kill_9,
    pid_of,
)
from tests.support.restartable_ray import RestartableRay, restartable_ray

LONG_S = 120.0
SHORT_S = 1.5
BOOT_S = 0.5
CLUSTER = "test-registry"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RestartableRay]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGYM_CLUSTER", CLUSTER)
        with restartable_ray(4) as running:
            yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("containers")


@pytest.fixture(scope="module")
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def spawn(cluster: RestartableRay, root: Path) -> Iterator[Callable[..., Any]]:
    """Starts a LeaseHolder; those that are left are killed afterwards."""
    holders: list[Any] = []
    cluster.start()

    def spawn_holder(**settings: Any) -> Any:
        settings = {"ttl_s": LONG_S, "keep_s": LONG_S, **settings}
        actor = ray.remote(LeaseHolder).options(num_cpus=0)
        holders.append(actor.remote(functools.partial(DirectoryStore, root, BOOT_S), settings))
        return holders[-1]

    yield spawn_holder
    for holder in holders:
        with contextlib.suppress(ActorHandleNotFoundError):  # of a Ray that was ended
            ray.kill(holder)


def start(holder: Any, client_id: str) -> str:
    return ray.get(holder.start.remote("flashgames", client_id), timeout=90).id


def rows() -> dict[str, Lease]:
    registry = RayRegistry(_no_store, cluster=CLUSTER)
    return {row.client_id: row for row in registry.rows()}


def _no_store() -> Any:
    raise AssertionError("the registry and the keepers are there already")


def registry_actor() -> Any:
    return ray.get_actor(NAME, namespace=NAMESPACE)


def keeper_actor() -> Any:
    node = ray.get_runtime_context().get_node_id()
    return ray.get_actor(f"raygym-keeper-{node}", namespace=NAMESPACE)


def eventually(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        time.sleep(0.05)


def test_a_steady_client_gets_the_same_remote_after_its_holder_closed(spawn, store):
    first = spawn()
    remote_id = start(first, "closed")
    assert ray.get(first.close.remote(), timeout=30)
    assert rows()["closed"].holder is None
    assert start(spawn(), "closed") == remote_id
    assert store.made().count(remote_id) == 1


def test_a_steady_client_gets_the_same_remote_after_ray_killed_its_holder(spawn, store):
    first = spawn()
    remote_id = start(first, "killed")
    ray.kill(first)
    assert start(spawn(), "killed") == remote_id
    assert store.made().count(remote_id) == 1


def test_a_holder_that_was_killed_with_9_is_followed_long_before_its_lease_ends(spawn):
    first = spawn()
    remote_id = start(first, "killed-9")
    token = rows()["killed-9"].token
    pid = kill_9(first)
    eventually(lambda: not is_running(pid))
    second = spawn()
    assert start(second, "killed-9") == remote_id
    row = rows()["killed-9"]
    assert row.token > token
    assert row.holder is not None
    assert row.holder.pid == pid_of(second)


def test_a_second_live_process_is_told_who_holds_the_remote(spawn, store):
    first, second = spawn(), spawn()
    start(first, "twice")
    with pytest.raises(LeaseHeld) as caught:
        start(second, "twice")
    error = caught.value.cause
    assert type(error) is LeaseHeld
    assert error.pid == pid_of(first)
    assert error.node == ray.get_runtime_context().get_node_id()
    assert f"held by process {error.pid} on node {error.node!r}" in str(error)
    assert ray.get(second.list.remote(), timeout=30) == []


def test_the_error_of_the_registry_reaches_a_process_as_itself(spawn, root):
    start(spawn(), "as-itself")
    backend = leased_backend_on_ray(functools.partial(DirectoryStore, root))
    with pytest.raises(LeaseHeld) as caught:
        backend.start("flashgames", client_id="as-itself")
    assert type(caught.value) is LeaseHeld
    backend.close()


def test_another_name_of_the_cluster_is_refused(spawn, store, root, monkeypatch):
    start(spawn(), "same-name")
    monkeypatch.setenv("RAYGYM_CLUSTER", "another")
    backend = leased_backend_on_ray(functools.partial(DirectoryStore, root))
    with pytest.raises(ConfigError, match=f"keeps the leases of '{CLUSTER}'"):
        backend.start("flashgames", client_id="other-name")
    backend.close()


def test_a_registry_that_is_silent_is_named_with_its_remedy(spawn):
    start(spawn(), "silence")
    pid = pid_of(registry_actor())
    impatient = RayRegistry(_no_store, cluster=CLUSTER, timeout_s=0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(
            RegistryUnreachable, match=r"did not answer rows within 0\.5 s"
        ) as caught:
            impatient.rows()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"ray.get_actor('{NAME}', namespace='{NAMESPACE}')" in str(caught.value)
    assert caught.value.method == "rows"
    assert "silence" in rows()


def test_leases_outlive_the_registry(spawn, store):
    lives, dies = spawn(ttl_s=15.0), spawn()
    kept = start(lives, "lives")
    left = start(dies, "dies")
    before = rows()
    pid = kill_9(registry_actor())
    kill_9(dies)
    after = rows()
    assert pid_of(registry_actor()) != pid
    assert after["lives"].token == before["lives"].token
    assert after["lives"].holder == before["lives"].holder
    assert start(spawn(), "dies") == left
    assert rows()["dies"].token > max(row.token for row in before.values())
    with pytest.raises(LeaseHeld):
        start(spawn(), "lives")
    eventually(lambda: rows()["lives"].renewed_s > after["lives"].renewed_s)
    assert ray.get(lives.list.remote(), timeout=30) == [kept]
    assert store.made().count(left) == 1


def test_a_remote_that_is_being_made_outlives_the_registry(spawn, store, root):
    holder = spawn()
    pending = holder.start.remote("flashgames", "made-meanwhile")
    eventually(lambda: "made-meanwhile" in rows())
    remote_id = rows()["made-meanwhile"].remote_id
    eventually(lambda: (root / remote_id).exists())
    kill_9(registry_actor())
    assert ray.get(pending, timeout=90).id == remote_id
    row = rows()["made-meanwhile"]
    assert (row.remote_id, row.is_ready) == (remote_id, True)


def test_a_create_that_was_sent_twice_makes_one_remote(spawn, store, root):
    holder = spawn()
    start(holder, "warms-up")
    pending = holder.start.remote("flashgames", "sent-twice")
    eventually(lambda: "sent-twice" in rows())
    remote_id = rows()["sent-twice"].remote_id
    eventually(lambda: (root / remote_id).exists())
    kill_9(keeper_actor())
    assert ray.get(pending, timeout=90).id == remote_id
    assert store.made().count(remote_id) == 1
    assert rows()["sent-twice"].is_ready
    assert ray.get(holder.log_tail.remote(remote_id), timeout=30) == f"log of {remote_id}"


def test_a_remote_goes_soon_after_the_lease_of_its_dead_holder_ended(spawn, store):
    holder = spawn(ttl_s=SHORT_S)
    remote_id = start(holder, "short")
    assert remote_id in store.running()
    kill_9(holder)
    eventually(lambda: remote_id not in store.running(), within_s=15.0)
    assert "short" not in rows()


def test_a_remote_goes_without_the_registry_too(spawn, store):
    holder = spawn(ttl_s=SHORT_S)
    remote_id = start(holder, "no-registry")
    ray.kill(registry_actor())
    kill_9(holder)
    eventually(lambda: remote_id not in store.running(), within_s=15.0)


def test_a_new_ray_finds_what_the_old_one_left(cluster, spawn, store):
    kept = start(spawn(), "over-restart")
    lost = start(spawn(ttl_s=SHORT_S), "not-over-restart")
    node = ray.get_runtime_context().get_node_id()
    left = RayRegistry(_no_store, cluster=CLUSTER)
    left.rows()
    cluster.stop()
    with pytest.raises(RegistryUnreachable, match="has left Ray"):
        left.rows()
    assert not ray.is_initialized()
    assert {kept, lost} <= set(store.running())
    cluster.start()
    assert ray.get_runtime_context().get_node_id() != node
    assert start(spawn(), "over-restart") == kept
    assert store.made().count(kept) == 1
    row = rows()["over-restart"]
    assert row.node == ray.get_runtime_context().get_node_id()
    assert row in left.rows()
    eventually(lambda: lost not in store.running(), within_s=15.0)
