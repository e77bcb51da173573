"""A Backend whose Remotes are held by leases, and found again by the next process."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from raygym.config import LEASE_KEEP_S, LEASE_TTL_S
from raygym.core import Remote
from raygym.errors import ConfigError, RaygymError, RemoteFailedToStart, RemoteUnreachable
from raygym.leases.holding import Holding
from raygym.leases.protocols import Holder, Lease, Registry, Store, Want
from raygym.leases.reaper import reap
from raygym.leases.recycling import Recycling
from raygym.leases.repeating import Repeating
from raygym.remote_env.side_by_side import side_by_side

log = logging.getLogger(__name__)

_ATTEMPTS = 4
_REAP_EVERY_S = 30.0
_SPARES_EVERY_S = 5.0

_backends: weakref.WeakSet[LeasedBackend] = weakref.WeakSet()
_reserving = threading.Lock()


class LeasedBackend:
    """Starts Remotes in containers, and gives a steady Client the one it had.

    A lease is renewed three times in its ``ttl_s``. When this process closes, each Remote is
    kept warm for ``keep_s``; when it dies, each goes ``ttl_s`` after the last renewal, by
    itself if nobody is left to remove it.

    Args:
        store: Where the containers are; closed with this backend.
        registry: Who grants the leases.
        variant: Arguments of the far end that a reuse must agree on.
        env_id: Environment that the Remotes are for, as far as known.
        ttl_s: How long a lease lasts after each renewal.
        keep_s: How long a Remote is kept warm after a release; 0 removes it.
        on_mismatch: What to do where a Client has a Remote of another Runtime.
        warm: How many spares of each Runtime asked for are kept ready.
        recycling: At which wear ``note_episode`` asks for another Remote.
        say: Told what a person may want to read, a line at a time.
        holder: On whose behalf; this process where None.
        clock: Returns unix seconds.
        close_timeout_s: Longest that ``close`` waits for removals.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        variant: Sequence[str] = (),
        env_id: str | None = None,
        ttl_s: float = LEASE_TTL_S,
        keep_s: float = LEASE_KEEP_S,
        on_mismatch: Literal["raise", "new"] = "raise",
        warm: int = 0,
        recycling: Recycling | None = None,
        say: Callable[[str], None] = log.info,
        holder: Holder | None = None,
        clock: Callable[[], float] = time.time,
        close_timeout_s: float = 30.0,
    ) -> None:
        if warm < 0:
            raise ConfigError(f"warm: expected 0 spares or more, got {warm!r}")
        self._store = store
        self._registry = registry
        self._variant = tuple(variant)
        self._env_id = env_id
        self._ttl_s = ttl_s
        self._keep_s = keep_s
        self._on_mismatch: Literal["raise", "new"] = on_mismatch
        self._warm = warm
        self._recycling = recycling or Recycling()
        self._say = say
        self._holder = Holder.this_process() if holder is None else holder
        self._clock = clock
        self._close_timeout_s = close_timeout_s
        self._holding = Holding(store, registry, clock)
        self._starting: set[tuple[str, str]] = set()
        self._runtimes: set[str] = set()
        self._owner_pid = os.getpid()
        self._is_closed = False
        self._want("check", "settings")
        self._heartbeat = Repeating("raygym-leases", self.renew, interval_s=ttl_s / 3)
        self._reaper = Repeating(
            "raygym-reaper", self.reap, interval_s=_REAP_EVERY_S, is_eager=True
        )
        self._pool = Repeating(
            "raygym-spares", self.top_up, interval_s=_SPARES_EVERY_S, is_eager=True
        )
        with _reserving:
            _backends.add(self)
        atexit.register(self.close)

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Returns the Client's Remote: the one it had, a spare, or a new one.

        Args:
            runtime: Name of its Runtime.
            client_id: Steady name of the Client.

        Raises:
            LeaseHeld: Another live process holds the Client's Remote.
            RuntimeMismatch: The Client has a Remote of another Runtime.
            ConfigError: This process holds a Remote for that Client already.
            RemoteFailedToStart: It ended, or did not listen in time. Ends with its log. Or one
                is being started for that Client in this process, which may come to nothing.
            RemoteUnreachable: One Remote after another was found dead.
            MissingDependency: The engine or an image is absent.
        """
        want = self._want(runtime, client_id)
        self._reserve(client_id, runtime)
        try:
            remote = self._obtain(want)
        finally:
            with _reserving:
                self._starting.discard((client_id, runtime))
        if self._is_closed:
            self._holding.remove(remote.id)
            raise self._closed(f"{remote.id} ({runtime})")
        self._reaper.start()
        if self._warm:
            self._runtimes.add(runtime)
            self._pool.start()
            self._pool.nudge()
        return remote

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes that this backend holds for Clients."""
        return self._holding.remotes()

    def remove(self, remote_id: str) -> None:
        """Removes a Remote, its directory and its row; one held by others is left alone."""
        self._holding.remove(remote_id)

    def release(self, remote_id: str) -> None:
        """Gives a Remote back whole: kept warm for its Client, or removed for ``keep_s`` 0."""
        self._holding.release(remote_id)

    def holds(self, remote_id: str) -> bool:
        """Returns whether this process still has the lease of a Remote."""
        return self._holding.is_held(remote_id)

    def lease_id(self, remote_id: str) -> str:
        """Returns the lease of a Remote: its id, a colon, the fencing token; empty: none."""
        return self._holding.lease_id(remote_id)

    def rebind(self, remote_id: str, env_id: str) -> None:
        """Notes that a Remote hosts another environment of its Runtime from now on.

        Raises:
            LeaseExpired: The lease was lost.
        """
        self._holding.rebind(remote_id, env_id)

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        """Counts an episode; returns whether the Remote should be removed and started anew.

        Args:
            remote_id: Whose episode ended.
            steps: How many it had.
            seconds: That they took together.
        """
        is_weighed = self._recycling.memory_mib is not None
        memory_mib = self._store.memory_mib(remote_id) if is_weighed else None
        reason = self._holding.note_episode(remote_id, steps, seconds, memory_mib, self._recycling)
        if reason is not None:
            self._say(f"{remote_id} is to be replaced: {reason}")
        return reason is not None

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns the end of a Remote's log, or an empty string if there is none."""
        return self._store.log_tail(remote_id, lines=lines)

    def renew(self) -> None:
        """Renews every lease and drops what is lost; a thread does so three times in ``ttl_s``."""
        self._holding.renew()

    def reap(self) -> Sequence[str]:
        """Removes what nobody holds; a thread of this backend does so every 30 s."""
        return reap(self._store, self._registry, now_s=self._clock())

    def top_up(self) -> None:
        """Makes the spares that are missing; a thread of this backend does so after claims."""
        for runtime in sorted(self._runtimes):
            while not self._is_closed and self._holding.spares(runtime) < self._warm:
                self._add_spare(runtime)

    def close(self) -> None:
        """Gives every Remote back and removes the spares. May be called twice.

        Also runs when the interpreter ends. What takes longer than ``close_timeout_s`` is left
        to the Remotes themselves: they end with their leases.
        """
        if os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.close)
        with _reserving:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        deadline_s = time.monotonic() + self._close_timeout_s
        for thread in (self._reaper, self._pool):
            thread.stop(timeout_s=0)
        side_by_side(self._holding.release, self._holding.ids(), deadline_s)
        for thread in (self._heartbeat, self._pool, self._reaper):
            thread.stop(timeout_s=max(0.0, deadline_s - time.monotonic()))
        self._store.close()

    def _want(self, runtime: str, client_id: str) -> Want:
        return Want(
            client_id=client_id,
            runtime=runtime,
            variant=self._variant,
            env_id=self._env_id,
            holder=self._holder,
            ttl_s=self._ttl_s,
            keep_s=self._keep_s,
            on_mismatch=self._on_mismatch,
        )

    def _reserve(self, client_id: str, runtime: str) -> None:
        """Keeps two starts of this process from sharing one Remote."""
        if os.getpid() != self._owner_pid:
            raise ConfigError(
                f"client {client_id!r}: this backend belongs to process {self._owner_pid}, of "
                f"which process {os.getpid()} is a fork; make a backend of its own there"
            )
        with _reserving:
            if self._is_closed:
                raise self._closed(f"{client_id!r} ({runtime})")
            rivals = [other for other in _backends if other._is_like(self)]
            what = f"client {client_id!r}: a remote of {runtime!r} "
            where = f"in this process (pid {self._owner_pid})"
            if any((client_id, runtime) in other._starting for other in rivals):
                raise RemoteFailedToStart(
                    f"{what}is being started {where}: wait until it is there and close its "
                    "environment, or use another client_id"
                )
            if any(other._holding.holds(client_id, runtime) is not None for other in rivals):
                raise ConfigError(
                    f"{what}is held {where} already: close its environment first, or use "
                    "another client_id"
                )
            self._starting.add((client_id, runtime))

    def _is_like(self, other: LeasedBackend) -> bool:
        clusters = self._registry.cluster, other._registry.cluster
        return clusters[0] == clusters[1] and self._holder == other._holder

    def _closed(self, what: str) -> RemoteFailedToStart:
        return RemoteFailedToStart(f"{what}: its backend is closed")

    def _obtain(self, want: Want) -> Remote:
        attempt = 0
        while True:
            attempt += 1
            began_s = time.monotonic()
            lease = self._registry.grant(want)
            try:
                remote = self._adopt(lease) if lease.is_ready else self._make(lease)
            except (RemoteUnreachable, OSError) as error:
                if not lease.is_ready or attempt == _ATTEMPTS:
                    raise
                log.warning("remote.dead remote_id=%s cause=%s", lease.remote_id, error)
            else:
                how = "taken over" if lease.is_ready else "made"
                took_s = time.monotonic() - began_s
                self._say(
                    f"{want.client_id}: remote {remote.id} ({want.runtime}) {how} in {took_s:.2f} s"
                )
                return remote

    def _adopt(self, lease: Lease) -> Remote:
        """Takes over a container that runs."""
        with self._caring_for(lease):
            self._store.write_lease(lease.remote_id, lease.as_file())
            remote = self._store.adopt(lease.remote_id)
            self._holding.confirm(remote)
        return remote

    def _make(self, lease: Lease) -> Remote:
        """Makes the container of a lease."""
        with self._caring_for(lease):
            remote = self._store.create(
                lease.remote_id,
                lease.runtime,
                client_id=lease.client_id,
                variant=lease.variant,
                cluster=self._registry.cluster,
                lease=lease.as_file(),
            )
            self._holding.confirm(remote)
        return remote

    def _add_spare(self, runtime: str) -> None:
        lease = self._registry.add_spare(runtime, self._variant, self._holder, self._ttl_s)
        try:
            self._make(lease)
        except RaygymError:
            if not self._is_closed:
                raise
        if self._is_closed:
            self._holding.remove(lease.remote_id)

    @contextlib.contextmanager
    def _caring_for(self, lease: Lease) -> Iterator[None]:
        """Renews a lease while its container is got ready; removes both where that fails."""
        self._holding.add(lease)
        self._heartbeat.start()
        try:
            for remote_id in lease.obsolete:
                self._remove_obsolete(remote_id)
            yield
        except BaseException:
            self._holding.remove(lease.remote_id)
            raise

    def _remove_obsolete(self, remote_id: str) -> None:
        try:
            self._store.remove(remote_id)
        except (RaygymError, OSError) as error:
            log.warning("remote.not_removed remote_id=%s cause=%s", remote_id, error)
