"""Wires a Backend of leased Remotes for a process of a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import ray

from raygym.config import LEASE_KEEP_S, LEASE_TTL_S
from raygym.leases.leased_backend import LeasedBackend
from raygym.leases.protocols import Holder, Store
from raygym.leases.recycling import Recycling
from raygym.service.detached import cluster_name
from raygym.service.keeper_store import KeeperStore
from raygym.service.keepers import keeper_of
from raygym.service.ray_registry import RayRegistry

log = logging.getLogger(__name__)


def docker_store() -> Store:
    """Returns the containers of this node's engine."""
    from raygym.remote_env.docker.store import DockerStore

    return DockerStore()


def leased_backend_on_ray(
    store_factory: Callable[[], Store] = docker_store,
    *,
    variant: Sequence[str] = (),
    env_id: str | None = None,
    ttl_s: float = LEASE_TTL_S,
    keep_s: float = LEASE_KEEP_S,
    on_mismatch: Literal["raise", "new"] = "raise",
    warm: int = 0,
    recycling: Recycling | None = None,
    say: Callable[[str], None] = log.info,
) -> LeasedBackend:
    """Returns a Backend whose Remotes live on this node and whose leases the cluster knows.

    For a process of a Ray cluster: an EnvActor, or a driver. The cluster's registry and this
    node's keeper are made with the first call where they are not there; they outlive this job.
    Containers bear the name in ``$RAYGYM_CLUSTER``, else ``default``.

    Args:
        store_factory: Makes the Store of a node, in its keeper; must pickle. Keepers that are
            there keep their own.
        variant: See ``LeasedBackend``, as all below.
        env_id: See there.
        ttl_s: See there.
        keep_s: See there.
        on_mismatch: See there.
        warm: See there.
        recycling: See there.
        say: See there.
    """
    node = ray.get_runtime_context().get_node_id()
    cluster = cluster_name()
    return LeasedBackend(
        KeeperStore(keeper_of(node, store_factory, cluster)),
        RayRegistry(store_factory, cluster=cluster),
        variant=variant,
        env_id=env_id,
        ttl_s=ttl_s,
        keep_s=keep_s,
        on_mismatch=on_mismatch,
        warm=warm,
        recycling=recycling,
        say=say,
        holder=replace(Holder.this_process(), node=node),
    )
