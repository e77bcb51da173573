"""The file in which a server on the same machine puts observations."""

from __future__ import annotations

import mmap
import os
import stat

from raygym.errors import RemoteProtocolError


def map_memory(path: str, size: int) -> memoryview:
    """Maps a server's file for reading; it is unmapped with the last view of it.

    Args:
        path: As ``Made.shared_memory`` says.
        size: Of the file, in bytes.

    Raises:
        OSError: It cannot be opened or mapped from here.
        RemoteProtocolError: It is no file, or shorter than announced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not 0 < size <= status.st_size:
            raise RemoteProtocolError(
                f"{path}: {size} bytes of shared memory were announced, and it is no file that "
                f"holds them but {status.st_size} bytes"
            )
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
    finally:
        os.close(fd)
