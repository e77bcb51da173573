"""Starts a small Ray on this machine, or joins the one that runs."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ray

from raygym.errors import ConfigError
from raygym.service.metrics.discovery import discovery_file

log = logging.getLogger(__name__)
Started = TypeVar("Started")

OBJECT_STORE_BYTES = 200 * 2**20
ACTOR_CPUS = 0.25
LARGE_BLOCK_BYTES = 2**20
JOIN_TIMEOUT_S = 5.0


@contextlib.contextmanager
def ray_running(actors: int, *, has_dashboard: bool) -> Iterator[None]:
    """Starts Ray on this machine, small, and ends it; or joins the cluster in RAY_ADDRESS.

    ``RAY_ADDRESS=auto`` joins the one that was started on this machine. One that this process
    has joined already is used as it is.

    Args:
        actors: How many actors it must have room for.
        has_dashboard: Whether to start Ray's dashboard, which tells Prometheus where metrics
            are; without it we do.

    Raises:
        ConfigError: The cluster in RAY_ADDRESS cannot be joined.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    if address != "local":
        _join_ray(address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would run its workers, and so the remotes that they start, behind everything else on
    # the machine; a game in real time cannot wait.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray's workers inherit these; each is one of many on the same cores.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    # glibc keeps what a gradient needs for a moment unless it is told where large blocks begin.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(LARGE_BLOCK_BYTES))
    # Ray starts dozens of threads, each of which would get a heap of its own.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    start_with_tries(lambda: _start_ray(actors, has_dashboard=has_dashboard), undo=ray.shutdown)
    try:
        with contextlib.nullcontext() if has_dashboard else discovery_file():
            yield
    finally:
        ray.shutdown()


def _join_ray(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            # Ray itself would wait for minutes.
            socket.create_connection((host.strip("[]"), int(port)), JOIN_TIMEOUT_S).close()
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"RAY_ADDRESS={address}: that Ray cluster cannot be joined: {one_line(error)}. Does "
            "it run? One that asks for a token needs RAY_AUTH_MODE=token here, too. "
            "RAY_ADDRESS=local starts one for this run"
        ) from error


def start_with_tries(start: Callable[[], Started], *, undo: Callable[[], None]) -> Started:
    """Starts Ray, at most three times; on a busy machine it can take longer than Ray waits.

    Args:
        start: Starts it. What it raises the last time is raised.
        undo: Ends what a start that raised has left.
    """
    for tries_left in (2, 1, 0):
        try:
            return start()
        # Ray raises what it likes where a start takes long: RuntimeError, a bare Exception.
        except Exception as error:
            undo()
            if not tries_left:
                raise
            log.warning("ray.start_again cause=%s", one_line(error))
    raise AssertionError("not reached")


def _start_ray(actors: int, *, has_dashboard: bool) -> None:
    ray.init(
        address="local",
        num_cpus=max(1, math.ceil(actors * ACTOR_CPUS)),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=has_dashboard,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )


def alive_nodes() -> list[str]:
    """Returns the ids of the cluster's nodes that live."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["NodeID"] for node in nodes if node["Alive"]]


def one_line(error: BaseException) -> str:
    """Returns the kind of an error and the last line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
