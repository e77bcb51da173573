"""The actor's class as it is, without Ray."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

import raygym
from raygym.errors import ConfigError
from raygym.gateway.actor import GatewayActor
from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.tenants import Tenants
from tests.support.gateway_remotes import ThreadBackend

ENV_ID = "gym-core.CartPole-v1"


@contextlib.contextmanager
def actor(**options: Any) -> Iterator[GatewayActor]:
    config = GatewayConfig(
        tenants=Tenants(is_open=True), limits=LeaseLimits(slots=2), env_ids=(ENV_ID,), **options
    )
    made = GatewayActor(config, "node-1", ThreadBackend)
    try:
        yield made
    finally:
        made.close()


def test_it_serves_from_the_start_and_says_where() -> None:
    with actor() as gateway:
        served = gateway.served()
        assert (served.node, served.pid) == ("node-1", os.getpid())
        assert repr(gateway) == f"Gateway({served.listening.grpc}, 2 slots)"
        env = raygym.RemoteEnv(f"grpc://{served.listening.grpc}")
        with contextlib.closing(env):
            env.reset(seed=1)
            (row,) = gateway.status().leases
            assert (row.env_id, row.node) == (ENV_ID, "node-1")


def test_what_keeps_it_from_serving_is_told_to_whoever_asks() -> None:
    with actor() as first:
        port = first.served().listening.grpc.port
        with actor(port=port) as second:
            assert repr(second) == "Gateway(silent, 2 slots)"
            for ask in (second.served, second.status):
                with pytest.raises(ConfigError, match="cannot listen"):
                    ask()


def test_it_may_be_closed_twice() -> None:
    with actor() as gateway:
        gateway.served()
        gateway.close()
