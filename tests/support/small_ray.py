"""A small Ray on this machine, of one node or several, whose start bears a busy machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from raygym.service.ray_running import start_with_tries
from tests.support.process_tree import descendants

OBJECT_STORE_BYTES = 100 * 2**20


@contextlib.contextmanager
def small_ray(num_cpus: int = 2, **options: Any) -> Iterator[str]:
    """Starts a Ray of one node with this process as its driver; gives its address.

    Args:
        num_cpus: Of its node.
        **options: More for ``ray.init``.
    """
    with _quiet():
        try:
            start_with_tries(
                lambda: ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    logging_level=logging.WARNING,
                    log_to_driver=False,
                    **options,
                ),
                undo=ray.shutdown,
            )
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()


@contextlib.contextmanager
def small_cluster() -> Iterator[Cluster]:
    """Starts a node that others can join, with this process as its driver."""
    with _quiet():
        cluster = Cluster()
        try:
            _add(cluster, include_dashboard=False)
            ray.init(address=cluster.address, log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextlib.contextmanager
def another_node(cluster: Cluster) -> Iterator[Any]:
    """Adds a node for a while; it may be gone before."""
    node = _add(cluster)
    cluster.wait_for_nodes()
    try:
        yield node
    finally:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


def _add(cluster: Cluster, **options: Any) -> Any:
    before = descendants(os.getpid())

    def end_what_started() -> None:
        for pid in descendants(os.getpid()) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return start_with_tries(
        lambda: cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, **options),
        undo=end_what_started,
    )
