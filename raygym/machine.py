"""Tells whether two processes could open each other's files and sockets."""

from __future__ import annotations

import os
from pathlib import Path

_NAMESPACES = ("mnt", "net", "pid")


def machine_id() -> str:
    """Returns a text that is the same for processes which share files, sockets and process ids.

    It is made of the kernel's boot id, the user and the namespaces of mounts, network and
    processes. It is empty, and must match nothing, where the kernel does not tell.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = [Path(f"/proc/self/ns/{name}").stat().st_ino for name in _NAMESPACES]
    except OSError:
        return ""
    return "-".join([boot_id, str(os.getuid()), *(str(space) for space in spaces)])
