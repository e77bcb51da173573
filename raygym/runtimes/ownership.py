"""What ties a remote to its owner: a file that says where it listens, a pipe that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

READY_FILE = "ready.json"


def write_ready(directory: Path, said: Mapping[str, Any]) -> None:
    """Says where a remote listens, in one atomic step.

    Args:
        directory: Private directory of the remote.
        said: Endpoints and what else its owner should know; JSON. The process id is added, and
            the name of the host, which tells a container from those before it.
    """
    part = directory / f"{READY_FILE}.part"
    own = {"pid": os.getpid(), "hostname": socket.gethostname()}
    part.write_text(json.dumps({**said, **own}), encoding="utf-8")
    part.rename(directory / READY_FILE)


class Lifeline:
    """Watches an inherited pipe whose end means that the owner is gone.

    Belongs to the event loop that made it.

    Args:
        fd: The pipe's reading end; None watches nothing.
        on_gone: Called once, when the owner is gone.
    """

    def __init__(self, fd: int | None, on_gone: Callable[[], None]) -> None:
        self._fd = fd
        self._on_gone = on_gone
        self.is_gone = False
        """Whether the owner is gone."""
        if fd is not None:
            asyncio.get_running_loop().add_reader(fd, self._readable)

    def close(self) -> None:
        """Watches no longer. May be called twice."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = None

    def _readable(self) -> None:
        assert self._fd is not None  # noqa: S101  else nobody would have called
        with contextlib.suppress(OSError):
            if os.read(self._fd, 1):
                return
        self.close()
        self.is_gone = True
        self._on_gone()
