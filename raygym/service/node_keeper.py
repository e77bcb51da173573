"""The one process of a node that touches its engine: makes, finds and removes its Remotes.

A plain class; ``raygym.service.keepers`` makes it an actor. Whoever dies, the keeper finds what
is left: a container's lease stands in the directory that it shares with its node.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from raygym.core import Remote
from raygym.errors import RaygymError
from raygym.leases.protocols import Found, Holder, LeaseFile, Store
from raygym.leases.repeating import Repeating
from raygym.service.metrics.lease_meters import KeeperMeters

log = logging.getLogger(__name__)

LATE_S = 2.0
"""How long after a lease's end its container is left, as its renewal may still be on its way."""
SETTLE_S = 10.0
"""How long a container or directory without any lease is left, as it may just be being made."""


class NodeKeeper:
    """Owns the Store of one node, and removes there what no lease names.

    All methods may be called from several threads, and twice with the same arguments.

    Args:
        store_factory: Makes the Store when it is first needed; again after it failed.
        node: Id of this node, as it stands in Holders and Leases.
        cluster: Whose containers these are; others' are left alone.
        reap_every_s: Pause between two looks at what is there; None looks at the start only.
        clock: Returns unix seconds.
        meters: Count what it does; None for some of its own.
    """

    def __init__(
        self,
        store_factory: Callable[[], Store],
        node: str,
        cluster: str,
        *,
        reap_every_s: float | None = 3.0,
        clock: Callable[[], float] = time.time,
        meters: KeeperMeters | None = None,
    ) -> None:
        self._meters = meters or KeeperMeters(node)
        self._store_factory = store_factory
        self._node = node
        self._cluster = cluster
        self._clock = clock
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._in_the_making: dict[str, int] = {}
        self._without_lease: dict[str, float] = {}
        self._problem = ""
        self._reap_and_note()
        self._loop: Repeating | None = None
        if reap_every_s is not None:
            self._loop = Repeating("raygym-reaper", self._reap_and_note, interval_s=reap_every_s)
            self._loop.start()

    def create(
        self,
        remote_id: str,
        runtime: str,
        *,
        client_id: str,
        variant: Sequence[str],
        cluster: str,
        lease: LeaseFile,
    ) -> Remote:
        """See ``Store.create``."""
        store = self._opened()
        with self._lock:
            self._in_the_making[remote_id] = self._in_the_making.get(remote_id, 0) + 1
        try:
            return store.create(
                remote_id,
                runtime,
                client_id=client_id,
                variant=variant,
                cluster=cluster,
                lease=lease,
            )
        finally:
            with self._lock:
                self._in_the_making[remote_id] -= 1
                if not self._in_the_making[remote_id]:
                    del self._in_the_making[remote_id]

    def adopt(self, remote_id: str) -> Remote:
        """See ``Store.adopt``."""
        return self._opened().adopt(remote_id)

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """See ``Store.write_lease``."""
        self._opened().write_lease(remote_id, lease)

    def remove(self, remote_id: str) -> None:
        """See ``Store.remove``."""
        self._opened().remove(remote_id)

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """See ``Store.log_tail``."""
        return self._opened().log_tail(remote_id, lines=lines)

    def memory_mib(self, remote_id: str) -> float | None:
        """See ``Store.memory_mib``."""
        return self._opened().memory_mib(remote_id)

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """See ``Store.survey``. A holder's node is this one, whatever its id was before."""
        return [self._here(found) for found in self._opened().survey(cluster)]

    def is_dead(self, holder: Holder) -> bool:
        """Returns whether a process of this node has surely ended."""
        return holder.is_dead(here=replace(Holder.this_process(), node=self._node))

    def reap(self) -> Sequence[str]:
        """Removes what no lease names.

        That is: containers and lone directories whose lease ran out more than ``LATE_S`` ago,
        and those which have been without a lease for ``SETTLE_S``.

        Returns:
            The ids of what was removed.
        """
        store = self._opened()
        all_found = store.survey(self._cluster)
        due = self._due(all_found)
        containers = sum(found.state != "gone" for found in all_found)
        self._meters.looked(containers=containers, orphans=len(due))
        for found in due:
            log.info("keeper.reap remote_id=%s state=%s", found.remote_id, found.state)
            store.remove(found.remote_id)
            self._meters.reaped(1)
        return [found.remote_id for found in due]

    def close(self) -> None:
        """Ends the loop and lets go of the engine; containers stay. May be called twice."""
        if self._loop is not None:
            self._loop.stop(timeout_s=0.0)
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def _opened(self) -> Store:
        with self._lock:
            if self._store is None:
                self._store = self._store_factory()
            return self._store

    def _here(self, found: Found) -> Found:
        """Ids of nodes change with each start of Ray; who shares a directory shares its node."""
        lease = found.lease
        if lease is None or lease.holder is None:
            return found
        return replace(found, lease=replace(lease, holder={**lease.holder, "node": self._node}))

    def _due(self, all_found: Iterable[Found]) -> list[Found]:
        now_s = self._clock()
        without_lease: dict[str, float] = {}
        due: list[Found] = []
        with self._lock:
            in_the_making = set(self._in_the_making)
        for found in all_found:
            if found.remote_id in in_the_making:
                continue
            if found.lease is not None:
                expires_s = found.lease.expires_unix_s
                # The container could have written it; one that never ends is no lease.
                is_due = not math.isfinite(expires_s) or now_s >= expires_s + LATE_S
            else:
                seen_s = self._without_lease.get(found.remote_id, now_s)
                since_s = min(seen_s, _changed_s(found, now_s))
                without_lease[found.remote_id] = since_s
                is_due = now_s >= since_s + SETTLE_S
            if is_due:
                due.append(found)
        self._without_lease = without_lease
        return due

    def _reap_and_note(self) -> None:
        """Reaps; what goes wrong is logged once, not each time."""
        problem = ""
        try:
            self.reap()
        except RaygymError as error:
            problem = error.message.splitlines()[0]
        except Exception as error:  # noqa: BLE001  a bug in one look must not end the keeper
            problem = repr(error)
        if problem and problem != self._problem:
            log.warning("keeper.cannot_reap node=%s cause=%s", self._node, problem)
        self._problem = problem
        self._meters.done(has_failed=bool(problem))


def _changed_s(found: Found, now_s: float) -> float:
    """Returns when something was last made or removed in a directory; now where nobody knows."""
    try:
        return now_s if found.directory is None else found.directory.stat().st_mtime
    except OSError:
        return now_s
