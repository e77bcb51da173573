"""Containers of gym-core by lease on a real Ray: whatever is killed, none is lost or left."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from docker.client import DockerClient

from raygym.core import Remote
from raygym.remote_env.rpc.connect import Access, open_session
from raygym.service.detached import NAMESPACE
from raygym.service.leased import docker_store
from raygym.service.node_keeper import SETTLE_S
from raygym.service.ray_registry import NAME
from tests.support.ray_holder import LeaseHolder, kill_9
from tests.support.restartable_ray import RestartableRay, restartable_ray

VARIANT = ("--mode", "lockstep", "--any-env")
LONG_S = 120.0
SHORT_S = 3.0
GONE_WITHIN_S = 15.0


@pytest.fixture(scope="module")
def label(engine: DockerClient, gym_core_image: str) -> Iterator[str]:
    """The label of this module's containers, which are removed in the end."""
    cluster = f"test-{secrets.token_hex(4)}"
    # Paths of unix sockets are short.
    state = Path(tempfile.mkdtemp(prefix="raygym-test-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGYM_CLUSTER", cluster)
        patch.setenv("RAYGYM_STATE", str(state))
        yield f"raygym.cluster={cluster}"
    for container in containers(engine, f"raygym.cluster={cluster}"):
        container.remove(force=True)
    shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(label: str) -> Iterator[RestartableRay]:
    with restartable_ray(4) as running:
        yield running


@pytest.fixture
def spawn(cluster: RestartableRay) -> Callable[..., Any]:
    """Starts a LeaseHolder."""
    cluster.start()

    def spawn_holder(**settings: Any) -> Any:
        settings = {"ttl_s": LONG_S, "keep_s": LONG_S, "variant": VARIANT, **settings}
        return ray.remote(LeaseHolder).options(num_cpus=0).remote(docker_store, settings)

    return spawn_holder


def containers(engine: DockerClient, label: str) -> list[Any]:
    return engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)


def started(engine: DockerClient, label: str) -> dict[str, str]:
    """Returns when each container was started, by its name."""
    return {one.name: one.attrs["State"]["StartedAt"] for one in containers(engine, label)}


def start(holder: Any, client_id: str) -> Remote:
    """Returns a Remote that answers."""
    remote = ray.get(holder.start.remote("gym-core", client_id), timeout=120)
    session = open_session(Access(endpoint=remote.rpc, token=remote.password), timeout_s=10.0)
    session.close()
    return remote


def eventually(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        time.sleep(0.1)


def actors() -> list[Any]:
    node = ray.get_runtime_context().get_node_id()
    return [ray.get_actor(name, namespace=NAMESPACE) for name in (NAME, f"raygym-keeper-{node}")]


def test_a_steady_client_gets_its_container_back_whatever_was_killed(engine, label, cluster, spawn):
    first = start(holder := spawn(), "steady")
    before = started(engine, label)
    assert f"raygym-{first.id}" in before
    for victims in ([], actors()):
        for victim in (holder, *victims):
            kill_9(victim)
        holder = spawn()
        assert start(holder, "steady") == first
    cluster.stop()
    cluster.start()
    holder = spawn()
    assert start(holder, "steady") == first
    assert started(engine, label) == before
    ray.kill(holder)


def test_a_container_that_died_is_replaced_at_the_next_start(engine, label, spawn):
    holder = spawn()
    first = start(holder, "dies")
    engine.containers.get(f"raygym-{first.id}").kill()
    kill_9(holder)
    second = start(spawn(), "dies")
    assert second.id != first.id
    assert f"raygym-{first.id}" not in started(engine, label)


def test_containers_end_by_themselves_where_all_of_ray_is_gone(engine, label, cluster, spawn):
    first = start(spawn(ttl_s=SHORT_S), "alone")
    name = f"raygym-{first.id}"
    directory = Path(first.rpc.path).parent
    assert name in started(engine, label)
    cluster.stop()
    eventually(lambda: name not in started(engine, label), within_s=SHORT_S + GONE_WITHIN_S)
    cluster.start()
    assert start(spawn(), "next").id != first.id
    eventually(lambda: not directory.exists(), within_s=3 * SETTLE_S)
