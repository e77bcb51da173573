"""Counts containers that end before they listen, so that nobody starts them for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from raygym.errors import RemoteFailedToStart
from raygym.remote_env.docker.errors import crash_loop

MOST_DEATHS = 3
"""So many in a row are a crash loop."""
WAIT_S = 60.0
"""How long none is started then; after it one may try again."""


@dataclass
class _Row:
    deaths: int
    last: RemoteFailedToStart
    died_s: float


class CrashCounter:
    """Deaths in a row, by what was started. Safe to call from several threads.

    Args:
        clock: Seconds that only grow, as ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[Hashable, _Row] = {}
        self._lock = threading.Lock()

    def check(self, key: Hashable, runtime: str) -> None:
        """Returns if one may be started now.

        Raises:
            CrashLoop: Those before it all ended.
        """
        with self._lock:
            row = self._rows.get(key)
            left_s = 0.0 if row is None else row.died_s + WAIT_S - self._clock()
            if row is not None and row.deaths >= MOST_DEATHS and left_s > 0:
                raise crash_loop(runtime, deaths=row.deaths, wait_s=left_s, last=row.last)

    def note(self, key: Hashable, runtime: str, death: RemoteFailedToStart) -> RemoteFailedToStart:
        """Counts a death; returns the error to raise about it."""
        with self._lock:
            row = self._rows.setdefault(key, _Row(0, death, 0.0))
            row.deaths, row.last, row.died_s = row.deaths + 1, death, self._clock()
            if row.deaths < MOST_DEATHS:
                return death
            return crash_loop(runtime, deaths=row.deaths, wait_s=WAIT_S, last=death)

    def forget(self, key: Hashable) -> None:
        """Notes that one listened."""
        with self._lock:
            self._rows.pop(key, None)
