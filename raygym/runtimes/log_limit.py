"""Keeps the log of a remote short: it may lie in memory, and a remote may live for weeks."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

MOST_BYTES = 4 * 2**20
_PERIOD_S = 5.0


def shorten(path: Path, most_bytes: int = MOST_BYTES) -> bool:
    """Drops the older three quarters of a log that has grown too long.

    Whoever writes to it must append (O_APPEND), and need not open it anew.

    Args:
        path: Of the log.
        most_bytes: Up to this length it stays as it is.

    Returns:
        Whether it was shortened.

    Raises:
        OSError: It cannot be read or written.
    """
    if path.stat().st_size <= most_bytes:
        return False
    with path.open("r+b") as file:
        file.seek(-(most_bytes // 4), os.SEEK_END)
        file.readline()
        kept = file.read()
        file.seek(0)
        file.truncate()
        file.write(b"(older lines were dropped)\n" + kept)
    return True


def keep_short(path: Path) -> None:
    """Shortens a log again and again, for as long as this process lives."""

    def watch() -> None:
        while True:
            time.sleep(_PERIOD_S)
            # It may be gone, with its directory.
            with contextlib.suppress(OSError):
                shorten(path)

    threading.Thread(target=watch, name="log limit", daemon=True).start()
