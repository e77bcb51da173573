"""Leases over several nodes of a Ray cluster; all are on this machine, each with a raylet."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygym.errors import LeaseHeld
from tests.support.ray_holder import LeaseHolder, is_running, kill_9, pid_of, store_of_this_node
from tests.support.small_ray import another_node, small_cluster

pytestmark = pytest.mark.timeout(900)

LONG_S = 600.0
START_WITHIN_S = 240.0
"""A busy machine takes long over an actor's first process."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGYM_CLUSTER", "test-nodes")
        with small_cluster() as running:
            yield running


@pytest.fixture(scope="module")
def head(cluster: Cluster) -> str:
    return ray.get_runtime_context().get_node_id()


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    """A second node, which goes with the test."""
    with another_node(cluster) as node:
        yield node


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("containers")


@pytest.fixture
def spawn(root: Path) -> Callable[..., Any]:
    """Starts a LeaseHolder on a node."""

    def spawn_holder(node: str, **settings: Any) -> Any:
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = ray.remote(LeaseHolder).options(num_cpus=0, scheduling_strategy=place)
        settings = {"ttl_s": LONG_S, "keep_s": LONG_S, **settings}
        return actor.remote(functools.partial(store_of_this_node, root), settings)

    return spawn_holder


def start(holder: Any, client_id: str) -> Path:
    """Returns the directory of the Remote."""
    remote = ray.get(holder.start.remote("flashgames", client_id), timeout=START_WITHIN_S)
    return Path(remote.vnc.path).parent


def eventually(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        time.sleep(0.05)


def test_a_client_that_comes_back_on_another_node_gets_a_remote_there(head, second, spawn, root):
    first = spawn(head)
    there = start(first, "moves")
    assert there.parent == root / head
    assert ray.get(first.close.remote(), timeout=30)
    here = start(spawn(second.node_id), "moves")
    assert here.parent == root / second.node_id
    assert not there.exists()


def test_only_its_own_node_tells_that_a_holder_is_dead(head, second, spawn, root):
    first, rival = spawn(second.node_id), spawn(head)
    there = start(first, "rivals")
    with pytest.raises(LeaseHeld) as caught:
        start(rival, "rivals")
    assert caught.value.node == second.node_id
    assert caught.value.pid == pid_of(first)
    pid = kill_9(first)
    eventually(lambda: not is_running(pid))
    assert start(rival, "rivals").parent == root / head
    assert not there.exists()


def test_a_node_that_is_gone_keeps_its_leases_until_they_end(cluster, head, second, spawn, root):
    ttl_s = 12.0
    holder, rival = spawn(second.node_id, ttl_s=ttl_s), spawn(head)
    start(rival, "is-up")
    start(holder, "lost")
    granted_s = time.monotonic()
    cluster.remove_node(second)
    with pytest.raises(LeaseHeld) as caught:
        start(rival, "lost")
    assert caught.value.node == second.node_id
    while True:
        try:
            here = start(rival, "lost")
        except LeaseHeld:
            assert time.monotonic() < granted_s + ttl_s + 30
        else:
            break
    assert here.parent == root / head
