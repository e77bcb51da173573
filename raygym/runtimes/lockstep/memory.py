"""Memory that a client on the same machine maps, with no file that could be left behind."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from pathlib import Path


class SharedMemory:
    """A file without a name in any directory; it ends with the last process that has it open.

    Args:
        fd: An open one, which then belongs to this; None makes one.
        path: Where others find it; None names it by this process.
        directory: Where to make a file with a name instead, for clients that see nothing else
            of this machine. It is removed when this is closed.
    """

    def __init__(
        self, fd: int | None = None, path: str | None = None, *, directory: Path | None = None
    ) -> None:
        self._file: Path | None = None
        if directory is not None:
            path = f"memory-{secrets.token_hex(8)}"
            self._file = directory / path
            fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.fd = os.memfd_create("raygym", os.MFD_CLOEXEC) if fd is None else fd
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}" if path is None else path
        """Can be opened by processes of the same user and namespaces; a bare name by those that
        have the directory."""
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None

    def resize(self, size: int) -> memoryview:
        """Returns a view of all ``size`` bytes, which are there for sure.

        Raises:
            OSError: There is not that much memory.
        """
        self._unmap()
        os.ftruncate(self.fd, size)
        os.posix_fallocate(self.fd, 0, size)
        self._map = mmap.mmap(self.fd, size)
        self._view = memoryview(self._map)
        return self._view

    def close(self) -> None:
        """Gives it up. May be called twice."""
        self._unmap()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()
            self._file = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _unmap(self) -> None:
        # Arrays may still look at it; then it is unmapped when the last of them is gone.
        self._view = self._map = None
