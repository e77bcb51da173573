"""Ends a remote in a container when nobody holds it any more.

Whoever holds the remote writes ``lease.json`` into its directory again and again (see
``raygym.remote_env.lease_file``). Nobody else needs to be alive for the remote to find that
this has ended, so nothing is left when all were killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

LEASE_FILE = "lease.json"
LOG_FILE = "remote.log"
"""What is left in the directory, for whoever asks what became of the remote."""

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_PATIENCE_S = 8.0
"""How long an orderly end may take, before the process just ends."""


class LeaseWatch:
    """Looks at the lease once a second, on a thread of its own.

    Belongs to the event loop that made it; should that hang, the process is ended all the same.

    Args:
        directory: Where the lease lies.
        grace_s: How long after the start there may be none; None watches nothing.
        on_over: Called once in the event loop, with the reason.
        unix_time: Unix time in seconds.
        period_s: Time between two looks.
        patience_s: How long the orderly end may take after ``on_over``.
        end: Ends the process.
    """

    def __init__(
        self,
        directory: Path,
        grace_s: float | None,
        on_over: Callable[[str], None],
        *,
        unix_time: Callable[[], float] = time.time,
        period_s: float = _PERIOD_S,
        patience_s: float = _PATIENCE_S,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._directory = directory
        self._on_over = on_over
        self._unix_time = unix_time
        self._period_s = period_s
        self._patience_s = patience_s
        self._end = end
        self._closed = threading.Event()
        self.is_over = False
        """Whether nobody holds the remote."""
        if grace_s is not None:
            self._loop = asyncio.get_running_loop()
            first_s = unix_time() + grace_s
            threading.Thread(
                target=self._watch, args=(first_s,), name="lease watch", daemon=True
            ).start()

    def close(self) -> None:
        """Watches no longer; clears the directory if the lease is over. May be called twice."""
        self._closed.set()
        if self.is_over:
            clear(self._directory)

    def _watch(self, first_s: float) -> None:
        expires_s = first_s
        while True:
            # In this order: a lease renewed between the two is seen, however long that takes.
            now_s = self._unix_time()
            expires_s = self._expiry(expires_s)
            if now_s >= expires_s:
                break
            if self._closed.wait(self._period_s):
                return
        if not (self._directory / LEASE_FILE).exists():
            reason = "nobody has taken it"
        else:
            reason = f"its lease ended {now_s - expires_s:.1f} s ago"
        log.info("lease.over reason=%s", reason)
        self.is_over = True
        # The loop may be closed already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_over, reason)
        if not self._closed.wait(self._patience_s):
            log.error("lease.hung patience_s=%.0f", self._patience_s)
            clear(self._directory)
            self._end(0)

    def _expiry(self, before_s: float) -> float:
        """Returns when the lease ends; ``before_s`` where none can be read."""
        try:
            said = json.loads((self._directory / LEASE_FILE).read_text(encoding="utf-8"))
            expires_s = float(said["expires_unix_s"])
        except (OSError, ValueError, TypeError, KeyError):
            return before_s
        return expires_s if math.isfinite(expires_s) else before_s


def clear(directory: Path) -> None:
    """Removes what is in a remote's directory, except its log; what cannot be is left."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.name == LOG_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
