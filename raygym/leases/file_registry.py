"""A Registry for the processes of one machine: a lock file and a table beside it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from raygym.errors import LeaseError
from raygym.leases.protocols import Found, Holder, Lease, Want
from raygym.leases.table import LeaseTable, Making

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S = 0.01


class RegistryBusy(LeaseError):
    """The registry's lock file was held by another process for too long."""


def new_remote_id() -> str:
    """Returns a name that no Remote has had: ``r-7f2a91c04b``."""
    return f"r-{secrets.token_hex(5)}"


class FileRegistry:
    """Leases of this user's processes on this machine, without any server.

    Each call locks ``registry.lock``, reads ``registry.json``, and writes it anew where it
    changed something. The lock is the kernel's: it goes with the process that holds it.

    Args:
        directory: The state directory; both files stand in it.
        cluster: Name that its containers bear.
        survey: Finds the containers of that cluster, to rebuild a table that was lost.
        lock_timeout_s: Longest wait for other processes.
        clock: Returns unix seconds.
        is_dead: Whether a process has surely ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cluster: str = "local",
        survey: Callable[[], Sequence[Found]] = tuple,
        lock_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
        is_dead: Callable[[Holder], bool] = Holder.is_dead,
    ) -> None:
        self.cluster = cluster
        self._lock_path = directory / "registry.lock"
        self._path = directory / "registry.json"
        self._survey = survey
        self._lock_timeout_s = lock_timeout_s
        self._clock = clock
        self._node = socket.gethostname()
        self._making = Making(new_id=new_remote_id, is_dead=is_dead, node=self._node)
        self._threads = threading.Lock()

    def grant(self, want: Want) -> Lease:
        """See ``Registry.grant``; raises RegistryBusy too, as every method does."""
        return self._change(lambda table, now_s: table.grant(want, self._making, now_s=now_s))

    def confirm(self, lease: Lease) -> None:
        """See ``Registry.confirm``."""
        self._change(lambda table, now_s: table.confirm(lease, now_s=now_s))

    def renew(self, lease: Lease) -> Lease:
        """See ``Registry.renew``."""
        return self._change(lambda table, now_s: table.renew(lease, now_s=now_s))

    def rebind(self, lease: Lease, env_id: str) -> Lease:
        """See ``Registry.rebind``."""
        return self._change(lambda table, now_s: table.rebind(lease, env_id, now_s=now_s))

    def release(self, lease: Lease) -> Lease | None:
        """See ``Registry.release``."""
        return self._change(lambda table, now_s: table.release(lease, now_s=now_s))

    def forget(self, remote_id: str, token: int) -> None:
        """See ``Registry.forget``."""
        self._change(lambda table, _: table.forget(remote_id, token))

    def rows(self) -> Sequence[Lease]:
        """See ``Registry.rows``."""
        return self._change(lambda table, _: table.rows())

    def add_spare(
        self, runtime: str, variant: tuple[str, ...], holder: Holder, ttl_s: float
    ) -> Lease:
        """See ``Registry.add_spare``."""
        return self._change(
            lambda table, now_s: table.add_spare(
                runtime,
                variant,
                holder=holder,
                ttl_s=ttl_s,
                remote_id=new_remote_id(),
                node=self._node,
                now_s=now_s,
            )
        )

    def expire(self) -> Sequence[Lease]:
        """See ``Registry.expire``."""
        return self._change(lambda table, now_s: table.expire(now_s=now_s))

    def rebuild(self, found: Iterable[Found]) -> Sequence[Lease]:
        """Adds a row for each container found whose lease counts and which has none.

        Returns:
            The rows that were added.
        """
        return self._change(lambda table, now_s: self._adopt(table, found, now_s))

    def _change(self, change: Callable[[LeaseTable, float], T]) -> T:
        with self._locked():
            table, before = self._read()
            answer = change(table, self._clock())
            after = table.to_json()
            if after != before:
                self._write(after)
            return answer

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps others out; threads of this process wait for each other without polling."""
        deadline_s = time.monotonic() + self._lock_timeout_s
        if not self._threads.acquire(timeout=self._lock_timeout_s):
            raise self._busy("another thread of this process")
        try:
            descriptor = self._lock(deadline_s)
            try:
                yield
            finally:
                os.close(descriptor)
        finally:
            self._threads.release()

    def _lock(self, deadline_s: float) -> int:
        """Returns a descriptor that holds the lock until it is closed."""
        while True:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                if time.monotonic() > deadline_s:
                    raise self._busy("another process") from error
                time.sleep(_POLL_S)
            else:
                if self._is_the_file(descriptor):
                    return descriptor
                os.close(descriptor)

    def _is_the_file(self, descriptor: int) -> bool:
        """Returns whether others would find this lock: somebody may have cleaned up."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock_path.stat())
        except FileNotFoundError:
            return False

    def _busy(self, holder: str) -> RegistryBusy:
        return RegistryBusy(
            f"{self._lock_path}: {holder} has held the lock for more than "
            f"{self._lock_timeout_s:g} s, which takes milliseconds when all is well. See who with "
            f"`fuser {self._lock_path}` and end it; the lock goes with its process.",
            path=str(self._lock_path),
        )

    def _read(self) -> tuple[LeaseTable, str]:
        """Returns the table and the text that it stands in; the lock is held."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._lost(), ""
        except UnicodeDecodeError as error:
            return self._set_aside(error), ""
        try:
            return LeaseTable.from_json(text), text
        except ValueError as error:
            return self._set_aside(error), ""

    def _set_aside(self, error: ValueError) -> LeaseTable:
        aside = self._path.with_suffix(".broken")
        self._path.replace(aside)
        table = self._lost()
        log.warning(
            "registry.rebuilt path=%s rows=%d moved_to=%s cause=%s",
            self._path,
            len(table.rows()),
            aside,
            error,
        )
        return table

    def _lost(self) -> LeaseTable:
        """Returns a table made of what the containers tell.

        Its tokens start at the time, so that they go on growing over what was lost.
        """
        now_s = self._clock()
        table = LeaseTable(last_token=int(now_s))
        self._adopt(table, self._survey(), now_s)
        return table

    def _adopt(self, table: LeaseTable, found: Iterable[Found], now_s: float) -> list[Lease]:
        ours = [one for one in found if one.cluster == self.cluster]
        adopted = [table.adopt(one, node=self._node, now_s=now_s) for one in ours]
        return [row for row in adopted if row is not None]

    def _write(self, text: str) -> None:
        part = self._path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(text, encoding="utf-8")
        part.replace(self._path)
