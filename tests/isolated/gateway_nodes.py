"""Gateways on several nodes of a Ray cluster; all are on this machine, each with a raylet."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import raygym
from raygym.errors import ConfigError
from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.serving import RunningGateway, find_gateways, start_gateways
from raygym.gateway.tenants import Tenants
from raygym.service.ray_running import alive_nodes
from tests.support.gateway_remotes import ThreadBackend
from tests.support.small_ray import another_node, small_cluster

ENV_ID = "gym-core.CartPole-v1"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with small_cluster() as running:
        yield running


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    """A second node, which goes with the test."""
    with another_node(cluster) as node:
        yield node


def config(**options: Any) -> GatewayConfig:
    return GatewayConfig(
        tenants=Tenants(is_open=True), limits=LeaseLimits(slots=1, queue_timeout_s=0.0), **options
    )


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def opened(gateway: RunningGateway) -> Any:
    address = f"grpc://{gateway.served().listening.grpc}"
    env = raygym.make(ENV_ID, remotes=address)
    env.reset(seed=1)
    return env


def test_each_node_serves_its_own_slots_and_a_node_that_goes_takes_only_those(
    cluster: Cluster, second: Any
) -> None:
    head = ray.get_runtime_context().get_node_id()
    nodes = alive_nodes()
    assert len(nodes) == 2
    gateways = start_gateways(config(), nodes, is_left=True, backends=ThreadBackend)
    try:
        assert {found.node for found in find_gateways()} == set(nodes)
        by_node = {gateway.node: gateway for gateway in gateways}
        (other,) = set(nodes) - {head}
        with (
            contextlib.closing(opened(by_node[head])) as stays,
            contextlib.closing(opened(by_node[other])) as goes,
        ):
            assert [gateway.status().used for gateway in gateways] == [1, 1]
            (row,) = by_node[other].status().leases
            assert row.node == other
            pid = by_node[other].served().pid
            cluster.remove_node(second, allow_graceful=False)
            # Ray ends the actors of a raylet that died a moment later.
            until(lambda: not is_running(pid))
            assert goes.step(0)[4]["outcome"] == "infra_failure"
            assert stays.step(0)[1] == 1.0
        until(lambda: not by_node[head].status().used)
    finally:
        by_node[head].stop()


def test_where_one_cannot_listen_none_is_left(cluster: Cluster, second: Any) -> None:
    # Both nodes are on this machine, so the second one finds the port taken.
    (first,) = start_gateways(config(), alive_nodes()[:1], is_left=False, backends=ThreadBackend)
    port = first.served().listening.grpc.port
    try:
        with pytest.raises(ConfigError, match="cannot listen"):
            start_gateways(config(port=port), alive_nodes()[1:], is_left=False)
        assert [found.node for found in find_gateways()] == [first.node]
    finally:
        first.stop()
