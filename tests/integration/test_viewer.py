"""A person looks in: TigerVNC's viewer shows what a remote shows while an agent plays."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

import raygym
from raygym.catalog import load_catalog
from raygym.core import Endpoint, Secret, UInt8Array
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.catch import TIMING_STRIP_PX as CATCH_STRIP_PX
from raygym.runtimes.flashgames.task import TIMING_STRIP_PX as FLASH_STRIP_PX
from raygym.wire import timing, vnc_auth
from raygym.wire.timing import TimingMark
from tests.support.xvnc import running_xvnc

TIMEOUT_S = 30.0


class Desk:
    """A screen with a viewer on it, and what can be seen there."""

    def __init__(self, session: VncSession, viewer: subprocess.Popen[bytes]) -> None:
        self.session = session
        self.viewer = viewer

    def picture(self, *, newer_than: int) -> tuple[UInt8Array, int]:
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


@pytest.fixture
def open_viewer(tmp_path):
    """Returns a function that opens a viewer on a remote's directory, full screen."""
    processes: list[subprocess.Popen[bytes]] = []
    sessions: list[VncSession] = []

    def opened(directory: Path, size_px: tuple[int, int], display: int, desk_socket: Path) -> Desk:
        password = tmp_path / "viewer.passwd"
        password.write_bytes(vnc_auth.obfuscate((directory / "password").read_text()))
        flags = ["-FullScreen", "-ViewOnly", "-Shared", "-RemoteResize=0", "-AlertOnFatalError=0"]
        with (tmp_path / "viewer.log").open("wb") as log:
            viewer = subprocess.Popen(
                ["vncviewer", *flags, "-passwd", str(password), str(directory / "vnc.sock")],
                env={**os.environ, "DISPLAY": f":{display}", "HOME": str(tmp_path)},
                stdout=log,
                stderr=log,
            )
        processes.append(viewer)
        sessions.append(VncSession(Endpoint(path=str(desk_socket)), password=Secret("desk")))
        return Desk(sessions[-1], viewer)

    yield opened
    for session in sessions:
        session.close()
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("env_id", "place"),
    [("flashgames.NeonRace-v0", FLASH_STRIP_PX), ("test.Catch-v0", CATCH_STRIP_PX)],
    ids=["Xvnc", "our own server"],
)
def test_tigervnc_s_viewer_shows_the_game_while_an_agent_plays(
    tmp_path, open_viewer, env_id, place
):
    catalog = load_catalog()
    spec = catalog.env(env_id)
    size_px = catalog.runtime(spec.runtime).screen_px
    backend = ProcessBackend()
    try:
        env = raygym.make(env_id, backend=backend, render_mode="rgb_array")
        env.reset(seed=1)
        desk_dir = tmp_path / "desk"
        desk_dir.mkdir()
        with running_xvnc(desk_dir, password="desk", width=size_px[0], height=size_px[1]) as xvnc:
            directory = backend.directory(env.remote_id)
            desk = open_viewer(directory, size_px, xvnc.display, xvnc.path)
            before = desk.marks(place, count=1)
            for _ in range(round(spec.fps)):
                *_, terminated, truncated, _ = env.step(env.action_space.sample())
                if terminated or truncated:
                    env.reset()
            after = desk.marks(place, count=2)

        ages = [timing.age_ms(time.time(), mark.painted_at_ms) for mark in (*before, *after)]
        assert ages[-1] < ages[0], "the picture in the viewer goes on"
        assert after[-1].input_count != before[0].input_count, "the agent's keys are seen to arrive"
        env.close()
    finally:
        backend.close()
