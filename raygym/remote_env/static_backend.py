"""Remotes that somebody else runs: they are lent from a list of addresses."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from raygym.core import Remote
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.remote_env.plain_backend import PlainBackend


class StaticBackend(PlainBackend):
    """Hands out Remotes by address; it starts and ends nothing.

    A Remote that is removed goes to the end of the queue, so a lost one is tried again
    only after every other.

    Args:
        remotes: The addresses, with ids of their own.
    """

    def __init__(self, remotes: Sequence[Remote]) -> None:
        if not remotes:
            raise ConfigError("StaticBackend: expected at least one address, got none")
        if len({remote.id for remote in remotes}) != len(remotes):
            raise ConfigError("StaticBackend: two addresses have the same id")
        self._free = deque(remotes)
        self._lent: dict[str, Remote] = {}
        self._lock = threading.Lock()

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Lends the address that was free for longest.

        Raises:
            RemoteFailedToStart: All are lent.
        """
        with self._lock:
            if not self._free:
                raise RemoteFailedToStart(
                    f"{client_id}: all {len(self._lent)} addresses are in use "
                    f"({', '.join(self._lent)}); give more addresses or use fewer slots"
                )
            remote = self._free.popleft()
            lent = replace(remote, runtime=runtime)
            self._lent[remote.id] = lent
            return lent

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes that are lent now."""
        with self._lock:
            return list(self._lent.values())

    def remove(self, remote_id: str) -> None:
        """Takes an address back; the Remote runs on."""
        with self._lock:
            remote = self._lent.pop(remote_id, None)
            if remote is not None:
                self._free.append(replace(remote, runtime=""))

    def release(self, remote_id: str) -> None:
        """Does as ``remove``: the next Client may have it."""
        self.remove(remote_id)

    def holds(self, remote_id: str) -> bool:
        """Returns whether it was given out and not taken back."""
        with self._lock:
            return remote_id in self._lent

    def close(self) -> None:
        """Takes every address back."""
        with self._lock:
            remote_ids = list(self._lent)
        for remote_id in remote_ids:
            self.remove(remote_id)
