"""The node keepers of a Ray cluster: one detached actor on each node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygym.errors import RemoteError
from raygym.leases.protocols import Found, Holder, Store
from raygym.service.detached import DetachedActor, get_or_make
from raygym.service.node_keeper import NodeKeeper

_THREADS = 64
"""Each Remote that starts takes one of them until it listens."""


class KeeperUnreachable(RemoteError):
    """The keeper of a node gave no answer in time; whether it acted is not known."""


def keeper_of(node: str, store_factory: Callable[[], Store], cluster: str) -> DetachedActor:
    """Returns the keeper of a node, which is made with the first call.

    Args:
        node: Id of a Ray node.
        store_factory: Makes its Store there; must pickle. A keeper that is there keeps its own.
        cluster: Whose containers it looks after.
    """
    name = f"raygym-keeper-{node}"
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return DetachedActor(
        name,
        lambda: get_or_make(
            NodeKeeper,
            name,
            store_factory,
            node,
            cluster,
            threads=_THREADS,
            scheduling_strategy=place,
        ),
        KeeperUnreachable,
    )


class RayKeepers:
    """Reaches the keepers of all nodes, for the Registry. See ``raygym.service.registry.Keepers``.

    Args:
        store_factory: Makes the Store of a node whose keeper is not there yet; must pickle.
        cluster: Whose containers they look after.
        timeout_s: Longest wait for one answer.
        verdict_timeout_s: Longest wait for whether a holder is dead; a grant waits for it.
    """

    def __init__(
        self,
        store_factory: Callable[[], Store],
        cluster: str,
        *,
        timeout_s: float = 20.0,
        verdict_timeout_s: float = 5.0,
    ) -> None:
        self._store_factory = store_factory
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._verdict_timeout_s = verdict_timeout_s
        self._actors: dict[str, DetachedActor] = {}
        self._lock = threading.Lock()

    def nodes(self) -> Sequence[str]:
        """Returns the ids of the nodes that live."""
        nodes: Sequence[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return [node["NodeID"] for node in nodes if node["Alive"]]

    def survey(self, node: str) -> Sequence[Found]:
        """Returns what is there on a node.

        Raises:
            KeeperUnreachable: Its keeper does not answer, or the node is gone.
            RaygymError: What its Store raised.
        """
        found: Sequence[Found] = self._actor(node).call(
            "survey", self._cluster, timeout_s=self._timeout_s
        )
        return found

    def remove(self, node: str, remote_id: str) -> None:
        """Removes a Remote of a node.

        Raises:
            KeeperUnreachable: Its keeper does not answer, or the node is gone.
            RaygymError: What its Store raised.
        """
        self._actor(node).call("remove", remote_id, timeout_s=self._timeout_s)

    def is_dead(self, holder: Holder) -> bool:
        """Returns whether a process has surely ended, as the keeper of its node sees it.

        Raises:
            KeeperUnreachable: That keeper does not answer, or the node is gone.
        """
        is_dead: bool = self._actor(holder.node).call(
            "is_dead", holder, timeout_s=self._verdict_timeout_s
        )
        return is_dead

    def _actor(self, node: str) -> DetachedActor:
        if node not in self.nodes():
            # An actor cannot be placed there any more; Ray would go on trying.
            raise KeeperUnreachable(f"node {node} is no longer in the cluster", node=node)
        with self._lock:
            if node not in self._actors:
                self._actors[node] = keeper_of(node, self._store_factory, self._cluster)
            return self._actors[node]
