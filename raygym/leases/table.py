"""Rules of leasing, without clock, chance or I/O: time, names and who is dead are passed in.

A row is in one of these states; ``token`` grows with each grant, and only its newest counts::

    being made --confirm--> held --release--> kept warm --grant--> held
        |                    ^ |                 |
        |    renew, rebind --+ |                 |
        +------- forget, or the time runs out: no row -------------+

A spare is a row without a Client; a grant turns a ready one into a Client's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from raygym.config import LEASE_TTL_S
from raygym.errors import LeaseExpired, LeaseHeld, RuntimeMismatch
from raygym.leases.protocols import Found, Holder, Lease, Want

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a grant makes a Remote that is not there yet, and judges who is dead."""

    new_id: Callable[[], str]
    """Makes a name that no Remote has had."""
    is_dead: Callable[[Holder], bool]
    """Whether a process has surely ended."""
    node: str
    """Where a new container would be; spares elsewhere are passed over."""


class LeaseTable:
    """All leases of one cluster.

    Args:
        rows: What is known already.
        last_token: The next grant's token is one more than this and than every row's.
    """

    def __init__(self, rows: Iterable[Lease] = (), *, last_token: int = 0) -> None:
        self._rows = {row.remote_id: row for row in rows}
        self._last_token = max([last_token, *(row.token for row in self._rows.values())])

    def rows(self) -> Sequence[Lease]:
        """Returns every row, smallest token first."""
        return sorted(self._rows.values(), key=lambda row: row.token)

    def grant(self, want: Want, making: Making, *, now_s: float) -> Lease:
        """Gives a Client its Remote: its own again, else a ready spare, else a new one.

        Args:
            want: Who asks for what.
            making: What the world outside has to say.
            now_s: Unix seconds.

        Returns:
            The row. ``obsolete`` names Remotes whose rows are gone: they must be removed.

        Raises:
            LeaseHeld: Another live process holds it; nothing was changed.
            RuntimeMismatch: The Client has a Remote of another Runtime; nothing was changed.
        """
        own = [row for row in self._rows.values() if row.client_id == want.client_id]
        live = [row for row in own if not row.is_expired(now_s)]
        same = next((row for row in live if row.runtime == want.runtime), None)
        if same is None and live and want.on_mismatch == "raise":
            raise _mismatch(want, live)
        rival = None if same is None else _rival(same, want, making)
        if same is not None and rival is not None:
            raise _held(same, rival, now_s)
        obsolete = [
            row for row in own if row.is_expired(now_s) or (row is same and _differs(row, want))
        ]
        for row in obsolete:
            del self._rows[row.remote_id]
        reused = same if same not in obsolete else None
        reused = reused or self._spare_for(want, making, now_s)
        row = self._granted(want, reused, making, now_s)
        return replace(row, obsolete=tuple(row.remote_id for row in obsolete))

    def confirm(self, lease: Lease, *, now_s: float) -> None:
        """Notes that the container is there.

        Raises:
            LeaseExpired: Its time ran out, or its token is stale.
        """
        row = self._current(lease, now_s)
        self._rows[row.remote_id] = replace(row, is_ready=True)

    def renew(self, lease: Lease, *, now_s: float) -> Lease:
        """Prolongs a lease to ``ttl_s`` from now, by the caller's ``ttl_s`` and ``keep_s``.

        Raises:
            LeaseExpired: Its time ran out, or its token is stale.
        """
        row = self._current(lease, now_s)
        row = replace(
            row,
            renewed_s=now_s,
            expires_s=now_s + lease.ttl_s,
            ttl_s=lease.ttl_s,
            keep_s=lease.keep_s,
        )
        self._rows[row.remote_id] = row
        return row

    def rebind(self, lease: Lease, env_id: str, *, now_s: float) -> Lease:
        """Notes another environment, and prolongs the lease.

        Raises:
            LeaseExpired: Its time ran out, or its token is stale.
        """
        row = replace(self.renew(lease, now_s=now_s), env_id=env_id)
        self._rows[row.remote_id] = row
        return row

    def release(self, lease: Lease, *, now_s: float) -> Lease | None:
        """Gives a Remote back.

        Returns:
            The row as it is kept warm for its Client, ``keep_s`` from now. None where nothing
            is kept: the row is gone then. None, and nothing changed, for a stale token.
        """
        row = self._rows.get(lease.remote_id)
        if row is None or not _is_current(row, lease, now_s):
            return None
        if not (row.is_ready and lease.keep_s > 0 and row.client_id):
            del self._rows[row.remote_id]
            return None
        row = replace(
            row,
            holder=None,
            renewed_s=now_s,
            expires_s=now_s + lease.keep_s,
            keep_s=lease.keep_s,
        )
        self._rows[row.remote_id] = row
        return row

    def forget(self, remote_id: str, token: int) -> None:
        """Removes a row; ignored for a stale token."""
        row = self._rows.get(remote_id)
        if row is not None and row.token == token:
            del self._rows[remote_id]

    def add_spare(
        self,
        runtime: str,
        variant: tuple[str, ...],
        *,
        holder: Holder,
        ttl_s: float,
        remote_id: str,
        node: str,
        now_s: float,
    ) -> Lease:
        """Adds a Remote for nobody yet; ``holder`` makes it and renews it."""
        row = Lease(
            remote_id=remote_id,
            client_id="",
            runtime=runtime,
            variant=variant,
            env_id=None,
            node=node,
            token=self._next_token(),
            holder=holder,
            granted_s=now_s,
            renewed_s=now_s,
            expires_s=now_s + ttl_s,
            ttl_s=ttl_s,
            keep_s=0.0,
            is_ready=False,
        )
        self._rows[remote_id] = row
        return row

    def expire(self, *, now_s: float) -> Sequence[Lease]:
        """Removes the rows whose time ran out and returns them, smallest token first."""
        gone = [row for row in self.rows() if row.is_expired(now_s)]
        for row in gone:
            del self._rows[row.remote_id]
        return gone

    def adopt(self, found: Found, *, node: str, now_s: float) -> Lease | None:
        """Makes a row of what a survey found, after the table was lost.

        Runtime and variant are the container's labels'; the rest stands in its lease file.

        Returns:
            The row; None where there is one already for this Remote, or a newer one for the
            Client and Runtime, and where it does not run or its lease no longer counts.
        """
        file = found.lease
        if found.state != "running" or file is None or found.remote_id in self._rows:
            return None
        if not (math.isfinite(file.expires_unix_s) and math.isfinite(file.keep_s)):
            return None
        # A container could write its lease file; its labels are out of its reach.
        client_id = found.first_client or file.client_id
        key = (client_id, found.runtime)
        rivals = [row for row in self._rows.values() if (row.client_id, row.runtime) == key]
        if not client_id:
            rivals = []
        if any(rival.token >= file.token for rival in rivals):
            return None
        row = Lease(
            remote_id=found.remote_id,
            client_id=client_id,
            runtime=found.runtime,
            variant=found.variant,
            env_id=file.env_id,
            node=node,
            token=file.token,
            holder=_holder_from(file.holder),
            granted_s=now_s,
            renewed_s=now_s,
            expires_s=file.expires_unix_s,
            ttl_s=LEASE_TTL_S,
            keep_s=max(0.0, file.keep_s),
            is_ready=True,
        )
        if row.is_expired(now_s):
            return None
        for rival in rivals:
            del self._rows[rival.remote_id]
        self._rows[row.remote_id] = row
        self._last_token = max(self._last_token, row.token)
        return row

    def to_json(self) -> str:
        """Returns all of it as text; ``from_json`` reads it back."""
        rows = [asdict(row) for row in self.rows()]
        return json.dumps({"format": _FORMAT, "last_token": self._last_token, "rows": rows})

    @classmethod
    def from_json(cls, text: str) -> LeaseTable:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: It is something else, or was cut.
        """
        try:
            said = json.loads(text)
            if said["format"] != _FORMAT:
                raise ValueError(f"format {said['format']!r}, expected {_FORMAT}")
            rows = [_row_from(row) for row in said["rows"]]
            return cls(rows, last_token=int(said["last_token"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no lease table: {error!r}") from error

    def _next_token(self) -> int:
        self._last_token += 1
        return self._last_token

    def _current(self, lease: Lease, now_s: float) -> Lease:
        """Returns the row that a lease still counts for."""
        row = self._rows.get(lease.remote_id)
        if row is None or not _is_current(row, lease, now_s):
            raise _expired(lease, row, now_s)
        return row

    def _spare_for(self, want: Want, making: Making, now_s: float) -> Lease | None:
        for row in self.rows():
            is_spare = not row.client_id and row.is_ready and not row.is_expired(now_s)
            is_like = row.runtime == want.runtime and not _differs(row, want)
            if is_spare and is_like and row.node == making.node:
                return row
        return None

    def _granted(self, want: Want, reused: Lease | None, making: Making, now_s: float) -> Lease:
        row = Lease(
            remote_id=making.new_id() if reused is None else reused.remote_id,
            client_id=want.client_id,
            runtime=want.runtime,
            variant=want.variant,
            env_id=want.env_id,
            node=making.node if reused is None else reused.node,
            token=self._next_token(),
            holder=want.holder,
            granted_s=now_s,
            renewed_s=now_s,
            expires_s=now_s + want.ttl_s,
            ttl_s=want.ttl_s,
            keep_s=want.keep_s,
            is_ready=reused is not None and reused.is_ready,
        )
        self._rows[row.remote_id] = row
        return row


def _rival(row: Lease, want: Want, making: Making) -> Holder | None:
    """Returns the other live process that holds a row, if one does."""
    if row.holder is None or row.holder == want.holder or making.is_dead(row.holder):
        return None
    return row.holder


def _differs(row: Lease, want: Want) -> bool:
    return row.variant != want.variant


def _is_current(row: Lease, lease: Lease, now_s: float) -> bool:
    return row.token == lease.token and row.holder is not None and not row.is_expired(now_s)


def _holder_from(said: Any) -> Holder | None:
    try:
        return Holder(
            node=str(said["node"]),
            pid=int(said["pid"]),
            pid_namespace=str(said["pid_namespace"]),
            started_ticks=int(said["started_ticks"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _row_from(said: dict[str, Any]) -> Lease:
    holder = None if said["holder"] is None else Holder(**said["holder"])
    texts = {name: tuple(said[name]) for name in ("variant", "obsolete")}
    return Lease(**{**said, **texts, "holder": holder})


def _held(row: Lease, holder: Holder, now_s: float) -> LeaseHeld:
    renewed_ago_s, ends_in_s = now_s - row.renewed_s, row.expires_s - now_s
    return LeaseHeld(
        f"client {row.client_id!r}: its remote {row.remote_id} ({row.runtime}) is held by process "
        f"{holder.pid} on node {holder.node!r}, which renewed it {renewed_ago_s:.1f} s ago; the "
        f"lease ends in {ends_in_s:.1f} s unless it is renewed. End that process, wait until it "
        "gives the remote back, or use another client_id.",
        client_id=row.client_id,
        remote_id=row.remote_id,
        node=holder.node,
        pid=holder.pid,
        renewed_ago_s=renewed_ago_s,
        ends_in_s=ends_in_s,
    )


def _mismatch(want: Want, rows: Sequence[Lease]) -> RuntimeMismatch:
    has = " and ".join(f"remote {row.remote_id} of runtime {row.runtime!r}" for row in rows)
    asked = f"runtime {want.runtime!r}" + (f" ({want.env_id})" if want.env_id else "")
    return RuntimeMismatch(
        f"client {want.client_id!r} has {has}, but {asked} was asked for. A remote is rebound "
        "only within its runtime: use another client_id, or on_mismatch='new' for a second "
        f"remote, or remove the first with `raygym remotes rm {rows[0].remote_id}`.",
        client_id=want.client_id,
        remote_id=rows[0].remote_id,
        runtime=rows[0].runtime,
        wanted_runtime=want.runtime,
    )


def _expired(lease: Lease, row: Lease | None, now_s: float) -> LeaseExpired:
    what = f"client {lease.client_id!r}" if lease.client_id else f"a spare of {lease.runtime!r}"
    if row is None:
        cause = "it is no longer in the registry"
    elif row.token != lease.token:
        cause = f"it was granted anew (token {row.token}, this one is {lease.token})"
    elif row.holder is None:
        cause = "it was given back"
    else:
        cause = f"it was not renewed in time and ended {now_s - row.expires_s:.1f} s ago"
    return LeaseExpired(
        f"remote {lease.remote_id} of {what}: {cause}. Ask for a remote again; the next episode "
        "starts there.",
        remote_id=lease.remote_id,
        client_id=lease.client_id,
        token=lease.token,
    )
