"""TigerVNC's viewer on a desk of its own, and what can be seen there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from raygym.core import Endpoint, Secret, UInt8Array
from raygym.remote_env.vnc_session import VncSession
from raygym.wire import timing, vnc_auth
from raygym.wire.timing import TimingMark

TIMEOUT_S = 90.0


class Desk:
    """A screen with a viewer on it, and what can be seen there."""

    def __init__(self, session: VncSession, viewer: subprocess.Popen[bytes]) -> None:
        self.session = session
        self.viewer = viewer

    def picture(self, *, newer_than: int) -> tuple[UInt8Array, int]:
        """Waits for a frame with a higher number; returns it with its own."""
        frame = self.session.read_frame(newer_than=newer_than, timeout_s=TIMEOUT_S)
        return frame.pixels.copy(), frame.number

    def marks(self, place: tuple[int, int], *, count: int) -> list[TimingMark]:
        """Waits for ``count`` different timing strips that can be read off the viewer."""
        deadline = time.monotonic() + TIMEOUT_S
        found: list[TimingMark] = []
        number = 0
        while len(found) < count:
            assert self.viewer.poll() is None, "the viewer ended"
            assert time.monotonic() < deadline, f"only {found} seen"
            pixels, number = self.picture(newer_than=number)
            mark = timing.read(pixels, *place)
            if mark is not None and mark not in found:
                found.append(mark)
        return found


@contextlib.contextmanager
def viewers(scratch: Path) -> Iterator[Callable[..., Desk]]:
    """Gives a function that opens a viewer on a remote's directory, full screen.

    Args:
        scratch: For the viewer's password, log and home.
    """
    processes: list[subprocess.Popen[bytes]] = []
    sessions: list[VncSession] = []

    def opened(directory: Path, size_px: tuple[int, int], display: int, desk_socket: Path) -> Desk:
        password = scratch / "viewer.passwd"
        password.write_bytes(vnc_auth.obfuscate((directory / "password").read_text()))
        flags = ["-FullScreen", "-ViewOnly", "-Shared", "-RemoteResize=0", "-AlertOnFatalError=0"]
        with (scratch / "viewer.log").open("wb") as log:
            viewer = subprocess.Popen(
                ["vncviewer", *flags, "-passwd", str(password), str(directory / "vnc.sock")],
                env={**os.environ, "DISPLAY": f":{display}", "HOME": str(scratch)},
                stdout=log,
                stderr=log,
            )
        processes.append(viewer)
        sessions.append(VncSession(Endpoint(path=str(desk_socket)), password=Secret("desk")))
        return Desk(sessions[-1], viewer)

    try:
        yield opened
    finally:
        for session in sessions:
            session.close()
        for process in processes:
            process.terminate()
            process.wait(10)
