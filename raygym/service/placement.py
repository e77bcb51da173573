"""Where slots are placed on a cluster, and what those wait for that have no place.

A slot is room for one Remote. A node has as many as its resource ``env_slots`` says; an actor
takes as many as it has environments, and so it and its Remotes are on one node, as Remotes are
made by the actor that steps them. Ray asks its autoscaler for what no node has left.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ENV_SLOTS = "env_slots"
"""The resource of which an actor takes one for each of its environments."""
KIND_LABEL = "raygym/kind"
"""Label of the nodes of a cluster made by our files: ``head`` or ``env``."""
ENV_KIND = "env"
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class NodePlaces:
    """A node that lives, and what it has left."""

    node: str
    """Its id on Ray."""
    address: str
    """Its IP address."""
    kind: str
    """What its label says: ``head``, ``env`` or nothing."""
    total: Mapping[str, float]
    """Its resources by name."""
    used: Mapping[str, float]
    """Those that are taken."""

    @property
    def slots(self) -> int:
        """Number of its slots."""
        return int(self.total.get(ENV_SLOTS, 0))

    @property
    def running(self) -> int:
        """Number of its slots that are taken."""
        return int(self.used.get(ENV_SLOTS, 0))

    def left(self, resource: str) -> float:
        """Returns how much of a resource is free."""
        return self.total.get(resource, 0.0) - self.used.get(resource, 0.0)


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Actors that wait for a place, all asking for the same."""

    resources: Mapping[str, float]
    """What each asks for."""
    count: int
    """How many they are."""

    @property
    def slots(self) -> int:
        """Number of slots that wait with them."""
        return round(self.count * self.resources.get(ENV_SLOTS, 0))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The slots of a cluster at one moment."""

    nodes: Sequence[NodePlaces]
    """Those that live, the head first."""
    demands: Sequence[Demand]
    """What waits for a place."""

    @property
    def slots(self) -> int:
        """Number of slots that there are."""
        return sum(node.slots for node in self.nodes)

    @property
    def running(self) -> int:
        """Number of slots that are taken."""
        return sum(node.running for node in self.nodes)

    @property
    def waiting(self) -> int:
        """Number of slots that wait for a place."""
        return sum(demand.slots for demand in self.demands)

    def lacking(self) -> list[str]:
        """Returns the resources that slots wait for, the scarcest first."""
        found: dict[str, int] = {}
        for demand in self.demands:
            if demand.slots:
                for resource in scarce(demand.resources, self.nodes):
                    found[resource] = found.get(resource, 0) + demand.slots
        return sorted(found, key=lambda resource: (-found[resource], resource))

    def as_json(self) -> dict[str, Any]:
        """Returns it for programs; one JSON object."""
        return {
            "nodes": [
                {
                    "node": node.node,
                    "address": node.address,
                    "kind": node.kind,
                    "slots": node.slots,
                    "running": node.running,
                }
                for node in self.nodes
            ],
            "slots": self.slots,
            "running": self.running,
            "waiting": self.waiting,
            "lacking": self.lacking(),
        }


def actor_options(
    num_slots: int, nodes: Iterable[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Returns the options of an actor that owns environments, beside ``num_cpus``.

    It takes its slots, and is put where the fewest others are.

    Args:
        num_slots: Number of environments that it owns.
        nodes: As ``ray.nodes()`` returns them; None asks Ray, which must be running.
    """
    return {"scheduling_strategy": "SPREAD", **slot_resources(num_slots, nodes)}


def slot_resources(
    num_slots: int, nodes: Iterable[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Returns the option by which an actor takes slots of one node; none where nothing has any.

    Args:
        num_slots: Number of environments that it owns.
        nodes: As ``ray.nodes()`` returns them; None asks Ray, which must be running.
    """
    if nodes is None:
        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = listed
    return {"resources": {ENV_SLOTS: num_slots}} if has_slots(nodes) else {}


def named(what: str) -> dict[str, Any]:
    """Returns the option that names an actor in Ray's dashboard.

    Args:
        what: What it is; a few random digits make it unique, as names must be.
    """
    return {"name": f"{what} {secrets.token_hex(3)}"}


def learner_options() -> dict[str, Any]:
    """Returns the options of an actor that keeps weights, beside ``num_cpus``.

    It stays on the node of the process that asks, as the run is over without either; nodes for
    remotes may come and go.
    """
    here = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=True)}


def has_slots(nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Returns whether a cluster counts slots.

    So it does, too, where only its head is up yet and all slots are still to come: the label
    tells.

    Args:
        nodes: As ``ray.nodes()`` returns them.
    """
    return any(
        ENV_SLOTS in node.get("Resources", {}) or KIND_LABEL in node.get("Labels", {})
        for node in nodes
        if node.get("Alive")
    )


def look(gcs_address: str | None = None) -> Placement:
    """Returns the slots of the cluster.

    Asks Ray's global control store, which answers in milliseconds and with no dashboard; what
    was placed or asked for within the last second may not be in it yet.

    Args:
        gcs_address: ``host:port``; None takes the cluster that this process has joined.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(gcs_address or ray.get_runtime_context().gcs_address)
    nodes = [_node(info) for info in (*status.active_nodes, *status.idle_nodes)]
    asked = status.resource_demands
    return Placement(
        nodes=sorted(nodes, key=lambda node: (node.kind != "head", node.address, node.node)),
        demands=[
            Demand(resources=dict(each.bundle), count=each.count)
            for demand in (*asked.ray_task_actor_demand, *asked.placement_group_demand)
            for each in demand.bundles_by_count
        ],
    )


def has_waiting_slots() -> bool:
    """Returns whether slots of the cluster wait for a place; False where Ray does not answer."""
    try:
        return look().waiting > 0
    except (RayError, RuntimeError, OSError):
        return False


def scarce(wanted: Mapping[str, float], nodes: Sequence[NodePlaces]) -> list[str]:
    """Returns the resources for want of which an actor has no place.

    Args:
        wanted: What it asks for.
        nodes: Those that there are.

    Returns:
        Those of which no node has enough left; where each is to be had, but not all on one
        node, those that the node with the most slots left lacks.
    """
    wanted = {name: amount for name, amount in wanted.items() if amount > 0}
    nowhere = [name for name in wanted if not any(_has(node, name, wanted[name]) for node in nodes)]
    if nowhere or not nodes:
        return sorted(nowhere)
    roomiest = max(nodes, key=lambda node: (node.left(ENV_SLOTS), node.left("CPU")))
    return sorted(name for name in wanted if not _has(roomiest, name, wanted[name]))


def waiting(placement: Placement) -> str:
    """Returns one line: how many slots run, how many wait, and for what."""
    running = f"{placement.running} of {placement.slots} slots run"
    if not placement.waiting:
        return f"{running}, none waits"
    lacking = placement.lacking()
    if not lacking:
        return f"{running}, {placement.waiting} {_are(placement.waiting, 'being placed')}"
    causes = [_cause(resource, placement.nodes) for resource in lacking]
    return f"{running}, {placement.waiting} {_wait(placement.waiting)} for {' and '.join(causes)}"


def table(placement: Placement) -> str:
    """Returns the slots of each node and what waits, for a person."""
    rows = [("node", "kind", "slots", "running", "free")]
    for node in placement.nodes:
        free = str(node.slots - node.running)
        rows.append(
            (node.address, node.kind or "-", str(node.slots), str(node.running), free),
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, waiting(placement)])


def _node(info: Any) -> NodePlaces:
    return NodePlaces(
        node=info.node_id or "",
        address=info.ip_address,
        kind=(info.labels or {}).get(KIND_LABEL, ""),
        total=info.total_resources(),
        used=info.used_resources(),
    )


def _has(node: NodePlaces, resource: str, amount: float) -> bool:
    return node.left(resource) >= amount - _ROUNDING


def _cause(resource: str, nodes: Sequence[NodePlaces]) -> str:
    total = sum(node.total.get(resource, 0.0) for node in nodes)
    used = sum(node.used.get(resource, 0.0) for node in nodes)
    if not total:
        return f"{resource} (no node has any)"
    return f"{resource} ({used:g} of {total:g} taken)"


def _are(count: int, doing: str) -> str:
    return f"{'is' if count == 1 else 'are'} {doing}"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


class Notices:
    """Says when slots wait, once for each change.

    Args:
        look: Returns the slots of the cluster.
        every_s: Pause between two looks.
        clock: Seconds, steady.
    """

    def __init__(
        self,
        look: Callable[[], Placement] = look,
        *,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._clock = clock
        self._next_s = -math.inf
        self._said = ""

    def news(self) -> str | None:
        """Returns a line if what waits has changed; None if not, and where Ray does not answer."""
        now_s = self._clock()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + self._every_s
        try:
            placement = self._look()
        except (RayError, RuntimeError, OSError):
            return None
        said, self._said = self._said, waiting(placement) if placement.lacking() else ""
        if self._said == said:
            return None
        return self._said or waiting(placement)
