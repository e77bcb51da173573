"""The lease in a remote's own directory: what ties a container to its holder.

The remote reads it and ends itself when it has run out; see ``raygym.runtimes.lease_watch``.
A container may write into its directory, so nothing there is taken for what it claims to be:
no link is followed, and what does not parse is no lease.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEASE_FILE = "lease.json"

_MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class LeaseFile:
    """Who may use a remote, and until when."""

    token: int
    """Fencing token; grows with each grant."""
    client_id: str
    """On whose behalf; empty for a spare."""
    runtime: str
    """Name of its Runtime."""
    variant: tuple[str, ...] = ()
    """Arguments of the far end that a reuse must agree on."""
    env_id: str | None = None
    """What is played; None where nobody has said."""
    holder: Mapping[str, Any] | None = None
    """The process that holds it; None for one that is kept warm."""
    expires_unix_s: float
    """When the remote ends itself, unless the lease is written anew before."""
    keep_s: float = 0.0
    """How long it is kept after its holder is gone, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A remote that somebody made, as its labels and its directory tell."""

    remote_id: str
    cluster: str
    """Empty for a directory whose container is gone."""
    runtime: str
    """Empty where neither labels nor a lease tell."""
    variant: tuple[str, ...]
    first_client: str
    """For whom it was made."""
    created: str
    """When, as ISO 8601 in UTC; empty where nothing tells."""
    state: str
    """The engine's word: ``created``, ``running``, ``exited``, ``dead``...; or ``gone``."""
    directory: Path | None
    """On this machine; None where there is none."""
    lease: LeaseFile | None
    """None where there is none that can be read."""


def write_lease(directory: Path, lease: LeaseFile) -> None:
    """Writes a remote's lease, in one atomic step.

    Args:
        directory: Of the remote.
        lease: Replaces the one that is there.

    Raises:
        OSError: The directory is gone, or its file system is full.
    """
    text = json.dumps(asdict(lease))
    # The container could have put a link where a known name is written to.
    part = directory / f"{LEASE_FILE}.{secrets.token_hex(8)}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # The remote reads it as another user; others do not get into the directory.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        part.replace(directory / LEASE_FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def read_lease(directory: Path) -> LeaseFile | None:
    """Returns a remote's lease; None where there is none, or nothing that can be read."""
    try:
        said = json.loads(read_untrusted(directory / LEASE_FILE, most_bytes=_MOST_BYTES))
        holder = said["holder"]
        return LeaseFile(
            token=int(said["token"]),
            client_id=str(said["client_id"]),
            runtime=str(said["runtime"]),
            variant=tuple(str(argument) for argument in said["variant"]),
            env_id=None if said["env_id"] is None else str(said["env_id"]),
            holder=None if holder is None else dict(holder),
            expires_unix_s=float(said["expires_unix_s"]),
            keep_s=float(said["keep_s"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_untrusted(path: Path, *, most_bytes: int) -> str:
    """Returns the text of a file that a container could have put there.

    Args:
        path: Of the file; its last part must be no link.
        most_bytes: The file's end is what is read of a longer one.

    Raises:
        OSError: There is none, or it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no plain file")
        file.seek(max(0, status.st_size - most_bytes))
        return file.read(most_bytes).decode(errors="replace")
