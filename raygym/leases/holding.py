"""The leases that one process holds: renewed, given back, or lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from raygym.core import Remote
from raygym.errors import LeaseExpired, RaygymError
from raygym.leases.protocols import Lease, Registry, Store
from raygym.leases.recycling import Recycling, Wear

log = logging.getLogger(__name__)


@dataclass
class _Held:
    """One lease. Its lock keeps a renewal from overtaking the end of the same lease."""

    lease: Lease
    remote: Remote | None = None
    wear: Wear = field(default_factory=Wear)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False


class Holding:
    """Keeps leases alive and ends them, in the registry and at the far end alike.

    Nothing here raises because the registry or the store is away for a moment: what could not
    be said to them ends by its own time.

    Args:
        store: Where the containers are.
        registry: Who grants the leases.
        clock: Returns unix seconds.
    """

    def __init__(self, store: Store, registry: Registry, clock: Callable[[], float]) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def add(self, lease: Lease) -> None:
        """Takes care of a lease from now on."""
        with self._lock:
            self._held[lease.remote_id] = _Held(replace(lease, obsolete=()))

    def confirm(self, remote: Remote) -> None:
        """Says that the container of a lease is there.

        Raises:
            LeaseExpired: The lease ended meanwhile.
        """
        held = self._get(remote.id)
        if held is None:
            raise LeaseExpired(
                f"remote {remote.id}: its lease was lost while it started; ask for one again",
                remote_id=remote.id,
            )
        with held.lock:
            if not held.lease.is_ready:
                self._registry.confirm(held.lease)
                held.lease = replace(held.lease, is_ready=True)
            held.remote = remote

    def ids(self) -> Sequence[str]:
        """Returns the Remotes held, those that are being made too."""
        with self._lock:
            return list(self._held)

    def remotes(self) -> Sequence[Remote]:
        """Returns the Remotes held for Clients that are ready."""
        with self._lock:
            held = list(self._held.values())
        return [h.remote for h in held if h.remote is not None and h.lease.client_id]

    def is_held(self, remote_id: str) -> bool:
        """Returns whether the lease of a Remote is held, as far as is known."""
        return self._get(remote_id) is not None

    def lease_id(self, remote_id: str) -> str:
        """Returns a Remote's id, a colon and the token of its lease; empty where none is held."""
        held = self._get(remote_id)
        return "" if held is None else f"{remote_id}:{held.lease.token}"

    def holds(self, client_id: str, runtime: str) -> str | None:
        """Returns which Remote is held for a Client and Runtime, if any."""
        with self._lock:
            leases = [held.lease for held in self._held.values()]
        key = (client_id, runtime)
        return next((x.remote_id for x in leases if (x.client_id, x.runtime) == key), None)

    def spares(self, runtime: str) -> int:
        """Returns how many spares of a Runtime are held, those that are being made too."""
        with self._lock:
            leases = [held.lease for held in self._held.values()]
        return sum(not lease.client_id and lease.runtime == runtime for lease in leases)

    def renew(self) -> None:
        """Renews every lease once, and drops those that are lost."""
        for remote_id in self.ids():
            held = self._get(remote_id)
            if held is not None:
                with held.lock:
                    self._renew(held)

    def rebind(self, remote_id: str, env_id: str) -> None:
        """Notes that a Remote hosts another environment of its Runtime from now on.

        Raises:
            LeaseExpired: The lease was lost; so it is for an unknown Remote.
        """
        held = self._get(remote_id)
        if held is None:
            raise LeaseExpired(
                f"remote {remote_id} is not held by this process; ask for one again",
                remote_id=remote_id,
            )
        with held.lock:
            held.lease = self._registry.rebind(held.lease, env_id)
            self._write(held.lease)

    def note_episode(
        self, remote_id: str, steps: int, seconds: float, memory_mib: float | None, to: Recycling
    ) -> str | None:
        """Adds an episode to the wear of a Remote; returns why it is worn, None where it is not."""
        held = self._get(remote_id)
        if held is None:
            return None
        with held.lock:
            held.wear = held.wear.after_episode(steps, seconds, memory_mib)
            return held.wear.reason(to)

    def release(self, remote_id: str) -> None:
        """Gives a Remote back; it is kept warm where its lease says so, else removed."""
        held = self._get(remote_id)
        if held is None:
            return
        if held.remote is None or held.lease.keep_s <= 0:
            self.remove(remote_id)
            return
        with held.lock:
            self._drop(held)
            try:
                kept = self._registry.release(held.lease)
            except Exception as error:  # noqa: BLE001  it ends by its own time
                log.warning("lease.not_released remote_id=%s cause=%r", remote_id, error)
                return
            if kept is not None:
                self._write(kept)

    def remove(self, remote_id: str) -> None:
        """Removes a Remote and its row, unless it is somebody else's by now."""
        held = self._get(remote_id)
        if held is None:
            return
        with held.lock:
            if held.is_over:
                return
            self._drop(held)
            if not self._is_ours(held.lease):
                return
            try:
                self._store.remove(remote_id)
                self._registry.forget(remote_id, held.lease.token)
            except Exception as error:  # noqa: BLE001  it ends by its own time
                log.warning("remote.not_removed remote_id=%s cause=%r", remote_id, error)

    def _get(self, remote_id: str) -> _Held | None:
        with self._lock:
            return self._held.get(remote_id)

    def _drop(self, held: _Held) -> None:
        held.is_over = True
        with self._lock:
            if self._held.get(held.lease.remote_id) is held:
                del self._held[held.lease.remote_id]

    def _renew(self, held: _Held) -> None:
        if held.is_over:
            return
        remote_id = held.lease.remote_id
        try:
            held.lease = self._registry.renew(held.lease)
        except LeaseExpired as error:
            self._drop(held)
            if held.lease.client_id:
                log.warning("lease.lost remote_id=%s cause=%s", remote_id, error)
            else:
                log.info("spare.taken remote_id=%s", remote_id)
        except Exception as error:  # noqa: BLE001  the registry may be back before the lease ends
            if held.lease.is_expired(self._clock()):
                self._drop(held)
                log.error("lease.lost remote_id=%s cause=%r", remote_id, error)
            else:
                log.warning("lease.not_renewed remote_id=%s cause=%r", remote_id, error)
        else:
            self._write(held.lease, is_there=held.remote is not None)

    def _write(self, lease: Lease, *, is_there: bool = True) -> None:
        """Tells the far end; one that is still being made may have nothing to write to yet."""
        try:
            self._store.write_lease(lease.remote_id, lease.as_file())
        except Exception as error:  # noqa: BLE001  it ends by its own time
            if is_there:
                log.warning("lease.not_written remote_id=%s cause=%r", lease.remote_id, error)

    def _is_ours(self, lease: Lease) -> bool:
        """Returns whether nobody else can hold it: asked, or else told by the time."""
        try:
            self._registry.renew(lease)
        except LeaseExpired:
            return False
        except (RaygymError, OSError):
            return not lease.is_expired(self._clock())
        return True
