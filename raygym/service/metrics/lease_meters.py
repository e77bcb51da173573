"""Counts what the registry and a node keeper do, for Prometheus."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from raygym.errors import LeaseError, LeaseHeld, RuntimeMismatch
from raygym.leases.protocols import Lease, Want
from raygym.service.metrics.recorder import Recorder
from raygym.service.metrics.specs import GRANT_LATENCY

LEASE_STATES = ("making", "held", "warm", "spare")


class RegistryMeters:
    """The counts of the registry. Safe to use from several threads.

    Args:
        recorder: Takes the counts; None for one of its own.
        clock: Seconds that only grow.
    """

    def __init__(
        self, recorder: Recorder | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._recorder = recorder or Recorder()
        self._clock = clock
        self._places: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def granting(self, want: Want) -> Iterator[None]:
        """Times a grant; one that raises a LeaseError counts as refused."""
        self._begin(want)
        began_s = self._clock()
        try:
            yield
        except LeaseError as error:
            self._recorder.add("raygym_lease_refusals", 1.0, want.runtime, type(error).__name__)
            raise
        self._recorder.time(GRANT_LATENCY, [self._clock() - began_s], want.runtime)

    def granted(self, lease: Lease) -> None:
        """Counts a lease that was granted."""
        how = "again" if lease.is_ready else "new"
        self._recorder.add("raygym_lease_grants", 1.0, lease.runtime, lease.node, how)

    def expired(self, rows: Sequence[Lease]) -> None:
        """Counts leases that ran out."""
        for row in rows:
            self._recorder.add("raygym_leases_expired", 1.0, row.runtime, row.node)

    def look(self, rows: Sequence[Lease]) -> None:
        """Takes in all rows, and hands everything over now and then."""
        counts = Counter((row.runtime, row.node, state_of(row)) for row in rows)
        here = {(row.runtime, row.node) for row in rows}
        for place in here - self._places:
            # A first event must be seen as a step from 0.
            self._recorder.add("raygym_leases_expired", 0.0, *place)
        # What is gone has 0 once more.
        for place in here | self._places:
            for state in LEASE_STATES:
                self._recorder.set("raygym_leases", float(counts[*place, state]), *place, state)
        self._places |= here
        self._recorder.flush_if_due()

    def close(self) -> None:
        """Hands over what is left; may be called twice."""
        self._recorder.flush()

    def _begin(self, want: Want) -> None:
        """Has the series begin at 0 that this grant may be the first event of."""
        for why in (LeaseHeld, RuntimeMismatch):
            self._recorder.add("raygym_lease_refusals", 0.0, want.runtime, why.__name__)
        for how in ("new", "again"):
            self._recorder.add("raygym_lease_grants", 0.0, want.runtime, want.holder.node, how)


class KeeperMeters:
    """The counts of a node keeper. Not for two threads at once.

    Args:
        node: Id of its Ray node.
        recorder: Takes the counts; None for one of its own.
    """

    def __init__(self, node: str, recorder: Recorder | None = None) -> None:
        self._recorder = recorder or Recorder({"node": node})
        self._recorder.add("raygym_reaped", 0.0)
        self._recorder.add("raygym_reap_failures", 0.0)
        self._recorder.set("raygym_orphans", 0.0)
        self._recorder.set("raygym_containers", 0.0)

    def looked(self, *, containers: int, orphans: int) -> None:
        """Takes in what is there before anything is removed.

        Args:
            containers: How many.
            orphans: How many things no lease names, containers and directories.
        """
        self._recorder.set("raygym_containers", float(containers))
        self._recorder.set("raygym_orphans", float(orphans))

    def reaped(self, count: int) -> None:
        """Counts what was removed."""
        self._recorder.add("raygym_reaped", float(count))

    def done(self, *, has_failed: bool) -> None:
        """Notes the end of a look, and hands everything over now and then."""
        self._recorder.add("raygym_reap_failures", float(has_failed))
        self._recorder.flush_if_due()


def state_of(row: Lease) -> str:
    """Returns in which of ``LEASE_STATES`` a lease is."""
    if not row.is_ready:
        return "making"
    if not row.client_id:
        return "spare"
    return "warm" if row.holder is None else "held"
