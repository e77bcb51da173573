"""What runs below a process, read from /proc."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path


def parents() -> dict[int, int]:
    """Returns the parent of each process that has not ended; zombies have."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = int(fields[1])
    return found


def descendants(pid: int) -> set[int]:
    """Returns the processes below a process."""
    parent_of, found = parents(), {pid}
    while grown := {child for child, parent in parent_of.items() if parent in found} - found:
        found |= grown
    return found - {pid}


def command(pid: int) -> list[str]:
    """Returns the command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def all_end(pids: Iterable[int], *, timeout_s: float = 5.0) -> bool:
    """Waits until all these processes have ended; returns whether they have."""
    wanted, deadline = set(pids), time.monotonic() + timeout_s
    while wanted & parents().keys():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
