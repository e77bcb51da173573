"""The one keeper of leases of a Ray cluster; it touches no container itself.

A plain class; ``raygym.service.ray_registry`` makes it a detached actor. Its table lives in
memory only: after a restart it is made anew of what the node keepers find.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar

from raygym.errors import LeaseExpired, LeaseHeld, RaygymError
from raygym.leases.file_registry import new_remote_id
from raygym.leases.protocols import Found, Holder, Lease, Want
from raygym.leases.repeating import Repeating
from raygym.leases.table import LeaseTable, Making
from raygym.service.metrics.lease_meters import RegistryMeters

log = logging.getLogger(__name__)

T = TypeVar("T")

DYING_S = 1.0
"""How long a grant waits for a holder that is just ending, before it raises LeaseHeld."""
_POLL_S = 0.05
_NODES_AT_ONCE = 8


class Keepers(Protocol):
    """The node keepers, as the Registry sees them. Each method may raise a RaygymError."""

    def nodes(self) -> Sequence[str]:
        """Returns the ids of the nodes that live."""
        ...

    def survey(self, node: str) -> Sequence[Found]:
        """Returns what is there on a node."""
        ...

    def remove(self, node: str, remote_id: str) -> None:
        """Removes a Remote of a node."""
        ...

    def is_dead(self, holder: Holder) -> bool:
        """Returns whether a process has surely ended, as its own node sees it."""
        ...


class RegistryActor:
    """Grants, renews, rebinds and expires the leases of one cluster.

    Its methods are those of ``raygym.leases.protocols.Registry``. All may be called from
    several threads and twice with the same arguments. A node whose keeper does not answer keeps
    its rows until they expire.

    Args:
        keepers: Makes what reaches the nodes; each node is surveyed before the first grant there.
        cluster: Name that the containers bear.
        expire_every_s: Pause between two looks for what expired; None leaves that, and the search
            for new nodes, to the caller.
        clock: Returns unix seconds.
        meters: Count what it does; None for some of its own.
    """

    def __init__(
        self,
        keepers: Callable[[], Keepers],
        cluster: str,
        *,
        expire_every_s: float | None = 1.0,
        clock: Callable[[], float] = time.time,
        meters: RegistryMeters | None = None,
    ) -> None:
        self.cluster = cluster
        self._meters = meters or RegistryMeters()
        self._keepers = keepers()
        self._clock = clock
        self._started_s = clock()
        # Tokens go on growing over those that were granted before and that no survey shows.
        self._table = LeaseTable(last_token=int(1000 * self._started_s))
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._surveys: dict[str, threading.Lock] = {}
        self._problems: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(_NODES_AT_ONCE, thread_name_prefix="raygym-removals")
        self._loops: list[Repeating] = []
        self.learn_nodes()
        if expire_every_s is not None:
            self._loops = [
                Repeating("raygym-expiry", self.expire, interval_s=expire_every_s),
                Repeating("raygym-nodes", self.learn_nodes, interval_s=3 * expire_every_s),
            ]
        for loop in self._loops:
            loop.start()

    def keeps(self) -> str:
        """Returns the name of the cluster whose leases these are."""
        return self.cluster

    def grant(self, want: Want) -> Lease:
        """See ``Registry.grant``.

        The endpoints of a Remote are files of its node: where the Client's Remote is on another
        node than its new holder, it is removed there, and the answer is a new one.

        Raises:
            LeaseHeld: Another live process holds it.
            RuntimeMismatch: The Client has a Remote of another Runtime.
            RaygymError: The holder's node could not be surveyed.
        """
        with self._meters.granting(want):
            lease = self._grant(want)
        self._meters.granted(lease)
        return lease

    def confirm(self, lease: Lease) -> None:
        """See ``Registry.confirm``."""
        self._with_row(lease, lambda: self._table.confirm(lease, now_s=self._clock()))

    def renew(self, lease: Lease) -> Lease:
        """See ``Registry.renew``."""
        return self._with_row(lease, lambda: self._table.renew(lease, now_s=self._clock()))

    def rebind(self, lease: Lease, env_id: str) -> Lease:
        """See ``Registry.rebind``."""
        return self._with_row(lease, lambda: self._table.rebind(lease, env_id, now_s=self._clock()))

    def release(self, lease: Lease) -> Lease | None:
        """See ``Registry.release``; a row that was given back with this token is returned."""
        self._recover(lease)
        with self._lock:
            row = self._row(lease.remote_id)
            if row is not None and row.token == lease.token and row.holder is None:
                return row
            return self._table.release(lease, now_s=self._clock())

    def forget(self, remote_id: str, token: int) -> None:
        """See ``Registry.forget``."""
        with self._lock:
            self._table.forget(remote_id, token)

    def rows(self) -> Sequence[Lease]:
        """See ``Registry.rows``."""
        with self._lock:
            return self._table.rows()

    def add_spare(
        self, runtime: str, variant: tuple[str, ...], holder: Holder, ttl_s: float
    ) -> Lease:
        """See ``Registry.add_spare``."""
        self._learn(holder.node)
        with self._lock:
            return self._table.add_spare(
                runtime,
                variant,
                holder=holder,
                ttl_s=ttl_s,
                remote_id=new_remote_id(),
                node=holder.node,
                now_s=self._clock(),
            )

    def expire(self) -> Sequence[Lease]:
        """See ``Registry.expire``; the containers are removed already, where they could be."""
        with self._lock:
            gone = self._table.expire(now_s=self._clock())
            left = self._table.rows()
        self._meters.expired(gone)
        self._meters.look(left)
        for row in gone:
            log.info("registry.expired remote_id=%s client_id=%s", row.remote_id, row.client_id)
        self._remove(gone)
        return gone

    def learn_nodes(self) -> None:
        """Surveys every node that is not known yet; one that does not answer is tried again."""
        nodes = self._keepers.nodes()
        with self._lock:
            self._known.intersection_update(nodes)
            unknown = [node for node in nodes if node not in self._known]
        if not unknown:
            return
        with ThreadPoolExecutor(_NODES_AT_ONCE) as pool:
            problems = list(pool.map(self._problem_of_learning, unknown))
        for node, problem in zip(unknown, problems, strict=True):
            if problem and problem != self._problems.get(node):
                log.warning("registry.no_survey node=%s cause=%s", node, problem)
            self._problems[node] = problem

    def close(self) -> None:
        """Ends the loops; leases and containers stay. May be called twice."""
        for loop in self._loops:
            loop.stop(timeout_s=0.0)
        self._pool.shutdown(wait=False)
        self._meters.close()

    def _grant(self, want: Want) -> Lease:
        self._learn(want.holder.node)
        obsolete: tuple[str, ...] = ()
        while True:
            lease = self._granted(want)
            obsolete += lease.obsolete
            if lease.node == want.holder.node:
                return replace(lease, obsolete=obsolete)
            log.warning(
                "registry.moved client_id=%s remote_id=%s from=%s to=%s",
                want.client_id,
                lease.remote_id,
                lease.node,
                want.holder.node,
            )
            self.forget(lease.remote_id, lease.token)
            self._remove([lease])

    def _granted(self, want: Want) -> Lease:
        """Grants; waits a little for a holder that is about to end."""
        deadline_s = time.monotonic() + DYING_S
        while True:
            dead = self._dead_rivals(want)
            making = Making(new_id=new_remote_id, is_dead=dead.__contains__, node=want.holder.node)
            try:
                with self._lock:
                    before = self._table.rows()
                    lease = self._table.grant(want, making, now_s=self._clock())
            except LeaseHeld:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(_POLL_S)
                continue
            elsewhere = [
                row
                for row in before
                if row.remote_id in lease.obsolete and row.node != want.holder.node
            ]
            self._remove(elsewhere)
            gone = {row.remote_id for row in elsewhere}
            return replace(lease, obsolete=tuple(i for i in lease.obsolete if i not in gone))

    def _dead_rivals(self, want: Want) -> set[Holder]:
        """Returns which holders of the Client's rows are dead; asks while no lock is held."""
        rivals = {
            row.holder
            for row in self.rows()
            if row.client_id == want.client_id
            and row.runtime == want.runtime
            and row.holder not in (None, want.holder)
        }
        return {rival for rival in rivals if rival is not None and self._is_dead(rival)}

    def _is_dead(self, holder: Holder) -> bool:
        try:
            return self._keepers.is_dead(holder)
        except RaygymError as error:
            log.warning("registry.no_verdict node=%s cause=%s", holder.node, error)
            return False

    def _with_row(self, lease: Lease, act: Callable[[], T]) -> T:
        try:
            with self._lock:
                return act()
        except LeaseExpired:
            if not self._recover(lease):
                raise
        with self._lock:
            return act()

    def _recover(self, lease: Lease) -> bool:
        """Finds a row again that was granted before this registry started.

        Its container may have been in the making, or its node's keeper away, when the nodes
        were surveyed.
        """
        with self._lock:
            is_here = self._row(lease.remote_id) is not None
        if is_here or lease.granted_s >= self._started_s:
            return False
        found = [
            found
            for found in self._keepers.survey(lease.node)
            if found.remote_id == lease.remote_id
            and found.lease is not None
            and found.lease.token == lease.token
        ]
        return bool(self._adopt(lease.node, found))

    def _row(self, remote_id: str) -> Lease | None:
        return next((row for row in self._table.rows() if row.remote_id == remote_id), None)

    def _problem_of_learning(self, node: str) -> str:
        try:
            self._learn(node)
        except RaygymError as error:
            return error.message.splitlines()[0]
        return ""

    def _learn(self, node: str) -> None:
        with self._lock:
            survey = self._surveys.setdefault(node, threading.Lock())
        with survey:
            with self._lock:
                if node in self._known:
                    return
            found = self._keepers.survey(node)
            rows = self._adopt(node, found)
            with self._lock:
                self._known.add(node)
        log.info("registry.learned node=%s found=%d rows=%d", node, len(found), len(rows))

    def _adopt(self, node: str, all_found: Iterable[Found]) -> list[Lease]:
        ours = [found for found in all_found if found.cluster == self.cluster]
        with self._lock:
            rows = [self._table.adopt(one, node=node, now_s=self._clock()) for one in ours]
        return [row for row in rows if row is not None]

    def _remove(self, rows: Sequence[Lease]) -> None:
        """Has containers removed; the keepers' own reaping is there for what fails here."""
        list(self._pool.map(self._remove_one, rows))

    def _remove_one(self, row: Lease) -> None:
        try:
            self._keepers.remove(row.node, row.remote_id)
        except RaygymError as error:
            log.warning("registry.not_removed remote_id=%s cause=%s", row.remote_id, error)
