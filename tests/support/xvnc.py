"""A real Xvnc for tests: on a display of its own choosing, behind a unix socket."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raygym.wire import vnc_auth

_START_S = 20.0
_STOP_S = 10.0


@dataclass(frozen=True)
class Xvnc:
    """A running Xvnc."""

    display: int
    """Number of its X display."""
    path: Path
    """Unix socket on which it speaks RFB."""

    def connect(self, *, timeout_s: float = 10.0) -> socket.socket:
        """Returns a new connection to it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(str(self.path))
        return connection


@contextmanager
def running_xvnc(
    directory: Path, *, password: str, width: int = 320, height: int = 240
) -> Iterator[Xvnc]:
    """Runs Xvnc with VncAuth; ends it with the block.

    Args:
        directory: For its socket, password and log.
        password: At most eight characters.
        width: Of its screen.
        height: Of its screen.
    """
    password_file = directory / "password"
    password_file.write_bytes(vnc_auth.obfuscate(password))
    socket_path = directory / "vnc.sock"
    read_end, write_end = os.pipe()
    with (directory / "xvnc.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "Xvnc",
                *("-displayfd", str(write_end)),
                *("-rfbport", "-1"),
                *("-rfbunixpath", str(socket_path)),
                *("-PasswordFile", str(password_file)),
                *("-SecurityTypes", "VncAuth"),
                *("-geometry", f"{width}x{height}"),
                *("-depth", "24"),
                *("-FrameRate", "250"),
                *("-nolisten", "tcp"),
            ],
            pass_fds=(write_end,),
            stdout=log,
            stderr=log,
        )
    os.close(write_end)
    try:
        is_ready, _, _ = select.select([read_end], [], [], _START_S)
        answer = os.read(read_end, 16) if is_ready else b""
        assert answer.strip(), (directory / "xvnc.log").read_text()
        yield Xvnc(int(answer), socket_path)
    finally:
        os.close(read_end)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
