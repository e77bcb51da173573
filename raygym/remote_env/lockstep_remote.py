"""A Remote in lock-step behind an environment: started when needed, replaced when lost."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from raygym.core import Backend, Remote
from raygym.errors import ConfigError, MissingDependency, RaygymError, RemoteFailedToStart
from raygym.remote_env.claims import Claims
from raygym.remote_env.rpc.session import LockstepSession
from raygym.remote_env.tenancy import Tenancy

log = logging.getLogger(__name__)


class Connect(Protocol):
    """Opens a session with a Remote that listens."""

    def __call__(self, remote: Remote, *, client_id: str, timeout_s: float) -> LockstepSession:
        """Returns a session that has said Hello.

        Raises:
            RemoteError, ProtocolError: The Remote is out of reach, or refuses.
        """
        ...


class LockstepRemote:
    """The Remote of one environment. It owns what it starts, but not the backend.

    Args:
        backend: Where Remotes come from.
        runtime: Name of their Runtime.
        client_id: On whose behalf.
        connect: Opens a session with one.
        start_timeout_s: Longest time from the start of a Remote to its Welcome.
    """

    def __init__(
        self,
        backend: Backend,
        runtime: str,
        *,
        client_id: str,
        connect: Connect,
        start_timeout_s: float,
    ) -> None:
        self.client_id = client_id
        self.runtime = runtime
        self.start_timeout_s = start_timeout_s
        self.started = 0
        """How many Remotes were started or lent so far."""
        self.lost = 0
        """How many of them were lost."""
        self._backend = backend
        self._connect = connect
        self._remote: Remote | None = None
        self._is_lost = False
        self._is_abandoned = False
        self.claims = Claims()
        """How long each took to answer, and why it was asked for."""
        self.tenancy: Tenancy | None = None
        """The use of the Remote of now, if there is one."""

    @property
    def remote(self) -> Remote | None:
        """The Remote of now, if there is one."""
        return self._remote

    @property
    def lease_id(self) -> str:
        """The lease that holds the Remote of now; empty where nothing is leased."""
        return "" if self.tenancy is None else self.tenancy.lease_id

    def open(self, *, timeout_s: float) -> LockstepSession:
        """Starts a Remote and connects to it; one that was there before counts as lost.

        Args:
            timeout_s: Not looked at: a start has its own deadline.

        Raises:
            RemoteFailedToStart: It did not get ready; ends with its log. Or it was abandoned.
            ConfigError, MissingDependency: Another try would not help.
        """
        del timeout_s
        self.note_loss()
        self.drop()
        self._check_wanted("before it started")
        deadline_s = time.monotonic() + self.start_timeout_s
        self.claims.begin()
        self._remote = remote = self._backend.start(self.runtime, client_id=self.client_id)
        self.tenancy = Tenancy(self._backend, remote.id)
        self.started += 1
        self._is_lost = False
        try:
            self._check_wanted("while it started")
            left_s = max(0.1, deadline_s - time.monotonic())
            session = self._connect(remote, client_id=self.client_id, timeout_s=left_s)
        except (ConfigError, MissingDependency):
            self.drop()
            raise
        except RaygymError as error:
            tail = self._backend.log_tail(remote.id)
            self.note_loss("start_failed")
            self.drop()
            raise RemoteFailedToStart(
                f"{remote.id} ({remote.runtime}) did not get ready: {error}"
                + (f"\nIts log ends:\n{tail}" if tail else ""),
                remote_id=remote.id,
                log=tail,
            ) from error
        self.claims.done()
        return session

    def note_loss(self, cause: str = "infra_failure") -> None:
        """Counts the Remote as lost, if there is one; it is replaced by the next ``open``.

        Args:
            cause: See ``Claims.gone``.
        """
        if self._remote is not None and not self._is_lost:
            self._is_lost = True
            self.lost += 1
            self.claims.gone(cause)
            log.warning("%s: %s was lost", self.client_id, self._remote.id)

    def abandon(self) -> None:
        """Counts the Remote as lost; one that is being started in another thread is ended."""
        self._is_abandoned = True
        self.note_loss()

    def release(self) -> None:
        """Gives the Remote back, or ends it if it was lost. May be called twice."""
        if self._is_lost or self._remote is None:
            self.drop()
            return
        remote, self._remote, self.tenancy = self._remote, None, None
        self._backend.release(remote.id)

    def wear_out(self) -> None:
        """Ends the Remote because it is worn."""
        self.claims.gone("worn")
        self.drop()

    def drop(self) -> None:
        """Ends the Remote, if there is one. May be called twice."""
        remote, self._remote, self.tenancy = self._remote, None, None
        if remote is not None:
            self._backend.remove(remote.id)

    def _check_wanted(self, when: str) -> None:
        if self._is_abandoned:
            raise RemoteFailedToStart(f"{self.client_id}: its remote was given up {when}")
