"""The file in which a server on the same machine puts observations."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from raygym.errors import RemoteProtocolError


def map_memory(path: str, size: int, directory: Path | None = None) -> memoryview:
    """Maps a server's file for reading; it is unmapped with the last view of it.

    Args:
        path: As ``Made.shared_memory`` says.
        size: Of the file, in bytes.
        directory: That of the socket by which the server was reached, where a bare name is
            looked up; None where it was reached in another way.

    Raises:
        OSError: It cannot be opened or mapped from here.
        RemoteProtocolError: It is no file, or shorter than announced.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if not path.startswith("/"):
        # The server could put a link there that it could not follow itself.
        path, flags = str(beside(directory, path)), flags | os.O_NOFOLLOW
    fd = os.open(path, flags)
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


def beside(directory: Path | None, name: str) -> Path:
    """Returns where a server's bare name is, as seen from here.

    Args:
        directory: That of the socket by which the server was reached.
        name: As the server said it.

    Raises:
        OSError: It is not a bare name, or the server was reached in another way.
    """
    if directory is None or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FileNotFoundError(f"{name!r} cannot be found from here")
    return directory / name
