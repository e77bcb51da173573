"""What processes of one machine know of each other, and of its network."""

from __future__ import annotations

import ipaddress
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


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine's own, and no other's, for sure."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def process_exists(pid: int) -> bool:
    """Returns whether there is such a process in this namespace, one that ended unreaped too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
