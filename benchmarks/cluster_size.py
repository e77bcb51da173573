"""A thousand fake slots over a simulated cluster; what is stated, nothing is bounded.

python benchmarks/cluster_size.py [--nodes 10] [--slots 1000] [--leases 1000]

All nodes are on this machine, each with a raylet of its own; slots do nothing, so what is
measured is what raygym itself needs for so many of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
from ray.cluster_utils import Cluster

from raygym.leases.protocols import Found, Holder, Lease, Want
from raygym.service.ray_registry import RayRegistry
from raygym.service.rollout_service import RolloutService
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.slots import Slots

NAME = "cluster-size"
SHAPE = (16, 16, 1)
STEPS = 8
THREADS = 8
"""Clients of the registry at once."""
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
RECOVERY_TIMEOUT_S = 180.0
TABLE = sys.stdout
"""Ray itself prints there what a raylet last said that was killed; see ``main``."""


class Nothing(gymnasium.Env[Any, Any]):
    """A small black picture; an episode is 100 steps."""

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return np.zeros(SHAPE, np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.zeros(SHAPE, np.uint8), 0.0, self._steps == 100, False, {}


def nothing(slot: int) -> Nothing:
    return Nothing()


def fake_slots(first: int, count: int) -> Slots:
    return InlineSlots(nothing, count)


class EmptyStore:
    """A Store without containers, for a registry that is asked for leases alone."""

    def survey(self, cluster: str | None) -> Sequence[Found]:
        return ()

    def remove(self, remote_id: str) -> None:
        """There is none."""

    def close(self) -> None:
        """There is nothing to let go of."""


@contextlib.contextmanager
def cluster_of(nodes: int) -> Iterator[tuple[Cluster, list[Any]]]:
    """Runs a cluster of so many nodes, the head among them; gives the others, too."""
    os.environ.update(
        RAYGYM_CLUSTER=NAME,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",
        RAY_prestart_worker_first_driver="0",
        RAY_enable_worker_prestart="0",
    )
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        others = [cluster.add_node(**NODE) for _ in range(nodes - 1)]
        cluster.wait_for_nodes(timeout=120)
        yield cluster, others
    finally:
        ray.shutdown()
        cluster.shutdown()


def row(what: str, value: str) -> None:
    """Prints a row of the table."""
    print(f"| {what} | {value} |", file=TABLE, flush=True)


def print_registry(leases: int) -> None:
    """Prints how many operations a second the registry does."""
    registry = RayRegistry(EmptyStore, cluster=NAME, timeout_s=60)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    here = Holder.this_process()

    def want(index: int) -> Want:
        holder = replace(here, node=nodes[index % len(nodes)])
        return Want(client_id=f"client-{index}", runtime="fake", holder=holder, ttl_s=600)

    began_s = time.perf_counter()
    for index in range(len(nodes)):
        registry.forget(*_key(registry.grant(want(index))))
    row(f"seconds until a registry knows {len(nodes)} nodes", f"{_since(began_s):.1f}")
    with ThreadPoolExecutor(THREADS) as pool:

        def rate(what: str, work: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
            began_s = time.perf_counter()
            done = list(pool.map(work, things))
            row(f"{what}/s, {leases:,} leases", f"{leases / _since(began_s):,.0f}")
            return done

        granted = rate("grants", lambda index: registry.grant(want(index)), range(leases))
        rate("confirmations", registry.confirm, granted)
        renewed = rate("renewals", registry.renew, granted)
        rate("releases", registry.release, renewed)


def _key(lease: Lease) -> tuple[str, int]:
    return lease.remote_id, lease.token


def _since(began_s: float) -> float:
    return time.perf_counter() - began_s


def seconds_until_all_played(service: RolloutService, slots: int, lost: int) -> float:
    """Returns how long it takes until every slot was in a Rollout.

    Args:
        service: Who plays.
        slots: How many there are.
        lost: Only Rollouts count that came after so many actors were lost.
    """
    began_s = time.perf_counter()
    seen: set[int] = set()
    while len(seen) < slots:
        if _since(began_s) > RECOVERY_TIMEOUT_S:
            raise TimeoutError(f"{len(seen)} of {slots} slots within {RECOVERY_TIMEOUT_S:g} s")
        rollout = service.next_rollout(timeout_s=1.0)
        if rollout is not None and service.stats().actors_lost >= lost:
            seen.update(rollout.traces.slots.tolist())
    return _since(began_s)


def pss_mib(pid: int) -> float:
    """Returns the memory of a process in MiB, its share of what others use, too."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def print_service(cluster: Cluster, node: Any, nodes: int, slots: int) -> None:
    """Prints what so many slots need, and how long a lost node is missed."""
    per_actor = slots // nodes
    with RolloutService(
        fake_slots, slots, rollout_steps=STEPS, slots_per_actor=per_actor
    ) as service:
        began_s = seconds_until_all_played(service, slots, 0)
        row(f"seconds until {slots:,} slots play, {nodes} actors", f"{began_s:.1f}")
        pids = {report.pid for report in service.reports() if hasattr(report, "pid")}
        memory_mib = sum(map(pss_mib, pids)) / slots
        row("MiB a slot, its share of its actor", f"{memory_mib:.2f}")
        steps_before, began_s = service.stats().steps, time.perf_counter()
        while _since(began_s) < 5:
            service.next_rollout(timeout_s=1.0)
        rate = (service.stats().steps - steps_before) / _since(began_s)
        row("env-steps/s over all slots", f"{rate:,.0f}")
        cluster.remove_node(node, allow_graceful=False)
        recovery_s = seconds_until_all_played(service, slots, 1)
        row(
            f"seconds from losing a node with {per_actor} slots until all play", f"{recovery_s:.1f}"
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--leases", type=int, default=1000)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    with (
        contextlib.redirect_stdout(io.StringIO()),
        cluster_of(given.nodes) as (cluster, others),
    ):
        row(f"{given.nodes} nodes on one machine", "measured")
        row("---", "---")
        print_registry(given.leases)
        print_service(cluster, others[0], given.nodes, given.slots)


if __name__ == "__main__":
    sys.exit(main())
