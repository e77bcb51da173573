"""Private directories of Remotes: made, claimed by their owner, removed, swept after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from raygym.errors import ConfigError

UNIX_SOCKET_MAX_BYTES = 107
"""Longest path that Linux takes for a unix socket."""

_PREFIX = "raygym-"
_CLAIM = "owner"
_POLL_S = 0.02


def make_private_directory() -> Path:
    """Makes a directory of mode 0700 whose path leaves room for a Remote's sockets.

    Raises:
        ConfigError: The temporary directory's path is too long, and so is /tmp's.
    """
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  mkdtemp makes it private
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        if len(os.fsencode(directory / "rewarder.sock")) <= UNIX_SOCKET_MAX_BYTES:
            return directory
        directory.rmdir()
    raise ConfigError(
        f"TMPDIR: {tempfile.gettempdir()} is too long for unix sockets "
        f"({UNIX_SOCKET_MAX_BYTES} bytes in all), and so is /tmp; set TMPDIR to a shorter path"
    )


def claim(directory: Path) -> int:
    """Marks a directory as in use for as long as this process lives, however it ends.

    Returns:
        A descriptor that holds the claim; closing it gives the claim up.
    """
    draft = directory / f"{_CLAIM}.part"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    draft.rename(directory / _CLAIM)
    return descriptor


def sweep() -> None:
    """Removes directories whose owner is gone, as after kill -9. Others' are left alone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_CLAIM}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(descriptor)


def remove(directory: Path, *, timeout_s: float = 2.0) -> None:
    """Removes a directory, again and again while a dying process still writes into it."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists() or time.monotonic() > deadline_s:
            return
        time.sleep(_POLL_S)
