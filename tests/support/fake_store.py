"""Containers in memory, which end by themselves when their lease runs out on a given clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raygym.core import Endpoint, Remote
from raygym.errors import RemoteUnreachable
from raygym.leases.protocols import Found, LeaseFile


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Returns the time, in unix seconds."""
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds


@dataclass
class Container:
    """One container, as labels and lease file tell."""

    runtime: str
    variant: tuple[str, ...]
    cluster: str
    first_client: str
    lease: LeaseFile | None


class FakeStore:
    """A Store without an engine. Several backends may share one, as processes share an engine.

    Args:
        clock: Returns unix seconds; a container is gone once its lease has ended on it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._containers: dict[str, Container] = {}
        self._lock = threading.Lock()
        self.created: list[str] = []
        """Every Remote that was made, in order."""
        self.removed: list[str] = []
        """Every removal that was asked for, in order."""
        self.failures: dict[str, list[Exception]] = {}
        """What the next calls of a method raise, by its name: ``{"create": [error]}``."""
        self.on_create: Callable[[str], None] = lambda remote_id: None
        """Called while a container is made, with its Remote's name."""
        self.memories: dict[str, float] = {}
        """Memory of each Remote, in MiB."""
        self.closed = 0
        """How often it was closed."""

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
        """Makes a container, or finds the one made before."""
        self._fail("create")
        with self._lock:
            if remote_id not in self._alive():
                self.created.append(remote_id)
                self._containers[remote_id] = Container(
                    runtime, tuple(variant), cluster, client_id, lease
                )
            else:
                self._containers[remote_id].lease = lease
        self.on_create(remote_id)
        return self._remote(remote_id)

    def adopt(self, remote_id: str) -> Remote:
        """Returns the Remote of a container that runs; raises RemoteUnreachable otherwise."""
        self._fail("adopt")
        return self._remote(remote_id)

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """Writes a lease; raises FileNotFoundError where the container is gone."""
        self._fail("write_lease")
        with self._lock:
            if remote_id not in self._alive():
                raise FileNotFoundError(f"{remote_id}/lease.json")
            self._containers[remote_id].lease = lease

    def remove(self, remote_id: str) -> None:
        """Removes a container; unknown ids are ignored."""
        self._fail("remove")
        with self._lock:
            self.removed.append(remote_id)
            self._containers.pop(remote_id, None)

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns a line that names the Remote, or nothing where it is gone."""
        with self._lock:
            return f"log of {remote_id}" if remote_id in self._alive() else ""

    def memory_mib(self, remote_id: str) -> float | None:
        """Returns what ``memories`` says."""
        return self.memories.get(remote_id)

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """Returns the containers that run."""
        self._fail("survey")
        with self._lock:
            return [
                Found(
                    remote_id=remote_id,
                    cluster=one.cluster,
                    runtime=one.runtime,
                    variant=one.variant,
                    first_client=one.first_client,
                    created="2026-01-01T00:00:00Z",
                    state="running",
                    directory=None,
                    lease=one.lease,
                )
                for remote_id, one in self._alive().items()
                if cluster in (None, one.cluster)
            ]

    def close(self) -> None:
        """Counts."""
        self.closed += 1

    def kill(self, remote_id: str) -> None:
        """Ends a container, as a lack of memory would."""
        with self._lock:
            del self._containers[remote_id]

    def running(self) -> list[str]:
        """Returns the Remotes whose containers run now, oldest first."""
        with self._lock:
            return list(self._alive())

    def lease(self, remote_id: str) -> LeaseFile | None:
        """Returns what the far end was told last; KeyError where it is gone."""
        with self._lock:
            return self._alive()[remote_id].lease

    def _alive(self) -> dict[str, Container]:
        """Ends what ran out; the lock is held."""
        now_s = self._clock()
        self._containers = {
            remote_id: one
            for remote_id, one in self._containers.items()
            if one.lease is None or not now_s >= one.lease.expires_unix_s
        }
        return self._containers

    def _remote(self, remote_id: str) -> Remote:
        with self._lock:
            one = self._alive().get(remote_id)
        if one is None:
            raise RemoteUnreachable(f"{remote_id}: its container does not run")
        vnc, rewarder = (Endpoint(path=f"/fake/{remote_id}/{name}.sock") for name in "vr")
        return Remote(id=remote_id, runtime=one.runtime, vnc=vnc, rewarder=rewarder)

    def _fail(self, method: str) -> None:
        failures = self.failures.get(method)
        if failures:
            raise failures.pop(0)
