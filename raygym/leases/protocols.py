"""The nouns of leasing: who holds, what is asked for, what is granted, by whom and of what.

A Registry remembers who may use which Remote; a Store makes, finds and removes the containers
that Remotes live in. All times are unix seconds: they are compared between processes, and with
the clock inside a container of the same machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from raygym.config import LEASE_KEEP_S, LEASE_TTL_S
from raygym.core import Remote
from raygym.errors import ConfigError
from raygym.machine import process_exists
from raygym.remote_env.lease_file import Found, LeaseFile

__all__ = ["Found", "Holder", "Lease", "LeaseFile", "Registry", "Store", "Want"]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lease."""

    node: str
    """Host name; under Ray the id of the node."""
    pid: int
    """Its process id, as its own PID namespace counts."""
    pid_namespace: str
    """Which PID namespace that is: ``pid:[4026531836]``; empty where the system has none."""
    started_ticks: int
    """When it started, in clock ticks since boot; 0 where the system does not say."""

    @classmethod
    def this_process(cls) -> Holder:
        """Returns the process that calls."""
        pid = os.getpid()
        return cls(
            node=socket.gethostname(),
            pid=pid,
            pid_namespace=_pid_namespace(),
            started_ticks=_started_ticks(pid) or 0,
        )

    def is_dead(self, *, here: Holder | None = None) -> bool:
        """Returns whether the process has surely ended; False where that cannot be seen.

        Args:
            here: The process that looks; the one that calls where None.
        """
        here = Holder.this_process() if here is None else here
        if (self.node, self.pid_namespace) != (here.node, here.pid_namespace):
            return False
        if not _has_proc():
            return not process_exists(self.pid)
        ticks = _started_ticks(self.pid)
        return ticks is None or (self.started_ticks != 0 and ticks != self.started_ticks)


def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started_ticks(pid: int) -> int | None:
    """Returns when a process started; None if there is none, or only its exit code is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in brackets, may itself hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, kw_only=True)
class Want:
    """What a Client asks a Registry for."""

    client_id: str
    """Steady name of the Client: the same name gets the same Remote back."""
    runtime: str
    """Name of the Runtime."""
    variant: tuple[str, ...] = ()
    """Arguments of the far end that a reuse must agree on: ``("--mode", "lockstep")``."""
    env_id: str | None = None
    """Environment that it is for; may change without another Remote."""
    holder: Holder
    """The process that asks."""
    ttl_s: float = LEASE_TTL_S
    """How long the lease lasts after each renewal, in seconds, above 0."""
    keep_s: float = LEASE_KEEP_S
    """How long the Remote is kept warm for its Client after a release; 0: not at all."""
    on_mismatch: Literal["raise", "new"] = "raise"
    """What to do where the Client has a Remote of another Runtime: RuntimeMismatch, or a second."""

    def __post_init__(self) -> None:
        for name in ("client_id", "runtime"):
            if not getattr(self, name):
                raise ConfigError(f"Want.{name}: expected a name, got {getattr(self, name)!r}")
        if not self.ttl_s > 0:
            raise ConfigError(f"Want.ttl_s: expected seconds above 0, got {self.ttl_s!r}")
        if not self.keep_s >= 0:
            raise ConfigError(f"Want.keep_s: expected 0 seconds or more, got {self.keep_s!r}")
        if self.on_mismatch not in ("raise", "new"):
            raise ConfigError(
                f"Want.on_mismatch: expected 'raise' or 'new', got {self.on_mismatch!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to one Remote until a time: one row of a Registry."""

    remote_id: str
    """Name of the Remote: ``r-7f2a91``."""
    client_id: str
    """For whom; empty for a spare."""
    runtime: str
    """Name of its Runtime."""
    variant: tuple[str, ...]
    """Arguments of the far end that a reuse must agree on."""
    env_id: str | None
    """Environment that it is for, as far as known."""
    node: str
    """Where its container is."""
    token: int
    """Fencing: grows with each grant, over all rows; only the newest of a row counts."""
    holder: Holder | None
    """Who holds it; None while it is kept warm for its Client."""
    granted_s: float
    """When this token was made, in unix seconds."""
    renewed_s: float
    """When it was last renewed, in unix seconds."""
    expires_s: float
    """From when on it no longer counts, in unix seconds."""
    ttl_s: float
    """How long it lasts after each renewal."""
    keep_s: float
    """How long it is kept warm after a release."""
    is_ready: bool
    """Whether its container is there; False while it is being made."""
    obsolete: tuple[str, ...] = ()
    """Remotes that the receiver of a grant must remove first; empty in a stored row."""

    def is_expired(self, now_s: float) -> bool:
        """Returns whether it no longer counts at that time."""
        return now_s >= self.expires_s

    def as_file(self) -> LeaseFile:
        """Returns what the far end is told of it."""
        return LeaseFile(
            token=self.token,
            client_id=self.client_id,
            runtime=self.runtime,
            variant=self.variant,
            env_id=self.env_id,
            holder=None if self.holder is None else dict(vars(self.holder)),
            expires_unix_s=self.expires_s,
            keep_s=self.keep_s,
        )


class Registry(Protocol):
    """Remembers who holds which Remote. Safe to call from several threads."""

    @property
    def cluster(self) -> str:
        """Name that its containers bear; steady over restarts of everything."""
        ...

    def grant(self, want: Want) -> Lease:
        """Gives a Client its Remote: its own again, else a ready spare, else a new one.

        Where the answer is not ready, the caller makes the container ``remote_id`` and calls
        ``confirm``; Remotes named in ``obsolete`` are to be removed by the caller.

        Raises:
            LeaseHeld: Another live process holds it.
            RuntimeMismatch: The Client has a Remote of another Runtime.
        """
        ...

    def confirm(self, lease: Lease) -> None:
        """Says that the container is there.

        Raises:
            LeaseExpired: Its time ran out, or another process took it over.
        """
        ...

    def renew(self, lease: Lease) -> Lease:
        """Prolongs a lease by its ``ttl_s`` from now.

        Raises:
            LeaseExpired: Its time ran out, or another process took it over.
        """
        ...

    def rebind(self, lease: Lease, env_id: str) -> Lease:
        """Notes another environment of the same Runtime, and prolongs the lease.

        Raises:
            LeaseExpired: Its time ran out, or another process took it over.
        """
        ...

    def release(self, lease: Lease) -> Lease | None:
        """Gives a Remote back, to be kept warm for its Client.

        Returns:
            The row as it is kept; None where it is not to be kept (the row is gone), or where
            the token is stale (nothing was changed).
        """
        ...

    def forget(self, remote_id: str, token: int) -> None:
        """Removes a row whose container is gone or broken; a stale token is ignored."""
        ...

    def rows(self) -> Sequence[Lease]:
        """Returns every row, oldest grant first."""
        ...

    def add_spare(
        self, runtime: str, variant: tuple[str, ...], holder: Holder, ttl_s: float
    ) -> Lease:
        """Adds a Remote for nobody yet: the caller makes it, confirms it and renews it.

        A later grant of the same Runtime and variant hands it over; the next renewal with its
        old token then raises LeaseExpired.
        """
        ...

    def expire(self) -> Sequence[Lease]:
        """Removes the rows whose time ran out and returns them: their containers must go."""
        ...


class Store(Protocol):
    """Makes, finds and removes the containers of Remotes. Safe to call from several threads."""

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
        """Makes a container, or finds the one made before, and returns once it listens.

        Raises:
            RemoteFailedToStart: It ended, or did not listen in time; ends with its log.
            MissingDependency: The engine, an image or a permission is absent.
        """
        ...

    def adopt(self, remote_id: str) -> Remote:
        """Returns the Remote of a container that runs already.

        Raises:
            RemoteUnreachable: It does not run, or does not listen.
        """
        ...

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """Tells the far end who holds it and until when."""
        ...

    def remove(self, remote_id: str) -> None:
        """Removes a container and its directory; unknown ids are ignored. Bounded in time."""
        ...

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns the end of a Remote's log, or an empty string if there is none."""
        ...

    def memory_mib(self, remote_id: str) -> float | None:
        """Returns the memory of a Remote now, in MiB; None where it cannot be told."""
        ...

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """Returns what is there of one cluster, or of all: containers, and lone directories."""
        ...

    def close(self) -> None:
        """Lets go of the engine; containers stay. May be called twice."""
        ...
