from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused
from raygym.runtimes import painted_screen as module
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire.rfb_client import RfbClient
from raygym.wire.rfb_server import KeyEvent, PointerEvent
from tests.support.loop_thread import LoopThread

WIDTH, HEIGHT, PASSWORD = 32, 16, "hunter22"
FRAME = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


class Shown:
    """A painted screen on a thread."""

    def __init__(self, directory: Path, **where) -> None:
        self.loop = LoopThread()
        self.path = directory / "vnc.sock"
        self.events: list[KeyEvent | PointerEvent] = []
        self.screen = PaintedScreen(
            directory, width_px=WIDTH, height_px=HEIGHT, password=PASSWORD, name="test", **where
        )
        self.screen.on_key = self.events.append
        self.screen.on_pointer = self.events.append
        self.endpoint = self.loop.run(self.screen.start())

    def paint(self, pixels: np.ndarray) -> None:
        async def painted() -> None:
            self.screen.paint(pixels)

        self.loop.run(painted())

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX if self.endpoint.path else socket.AF_INET)
        sock.settimeout(5)
        sock.connect(self.endpoint.path or (self.endpoint.host, self.endpoint.port))
        return sock

    def close(self) -> None:
        self.loop.run(self.screen.close())
        self.loop.close()


class Viewer:
    """Our client on a socket, read only as far as a test needs."""

    def __init__(self, sock: socket.socket, password: str = PASSWORD) -> None:
        self.sock = sock
        self.rfb = RfbClient(password=password, options=VncOptions(encoding="raw"))

    def look(self, is_seen: Callable[[RfbClient], bool]) -> None:
        """Exchanges bytes until ``is_seen``."""
        deadline_s = time.monotonic() + 5
        while True:
            self.sock.sendall(self.rfb.data_to_send())
            if is_seen(self.rfb):
                return
            assert time.monotonic() < deadline_s
            data = self.sock.recv(1 << 16)
            assert data, "the screen closed the connection"
            self.rfb.receive_data(data)

    def sees(self, pixels: np.ndarray) -> bool:
        self.look(lambda rfb: rfb.has_picture and bool((rfb.framebuffer[..., :3] == pixels).all()))
        return True


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    it = Shown(tmp_path)
    yield it
    it.close()


def until(is_so: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return is_so()


def test_what_is_painted_is_seen_and_then_what_changes(shown):
    shown.paint(FRAME)
    with shown.connect() as sock:
        viewer = Viewer(sock)
        assert viewer.sees(FRAME)
        assert (viewer.rfb.width, viewer.rfb.height, viewer.rfb.name) == (WIDTH, HEIGHT, "test")
        shown.paint(255 - FRAME)
        assert viewer.sees(255 - FRAME)


def test_the_painter_may_reuse_its_array(shown):
    pixels = FRAME.copy()
    shown.paint(pixels)
    pixels[:] = 0
    with shown.connect() as sock:
        assert Viewer(sock).sees(FRAME)


def test_several_may_look_at_once_and_are_counted(shown):
    assert shown.screen.clients() == 0
    with shown.connect() as one, shown.connect() as two:
        shown.paint(FRAME)
        assert Viewer(one).sees(FRAME)
        assert Viewer(two).sees(FRAME)
        assert shown.screen.clients() == 2
    assert until(lambda: shown.screen.clients() == 0)


def test_keys_and_pointer_reach_the_callbacks(shown):
    with shown.connect() as sock:
        viewer = Viewer(sock)
        viewer.look(lambda rfb: rfb.is_connected)
        viewer.rfb.key_event(0xFF51, True)
        viewer.rfb.pointer_event(3, 4, 1)
        viewer.rfb.key_event(0xFF51, False)
        viewer.look(lambda _: True)
        assert until(lambda: len(shown.events) == 3)
    assert shown.events == [KeyEvent(0xFF51, True), PointerEvent(3, 4, 1), KeyEvent(0xFF51, False)]


def test_a_wrong_password_is_refused_and_said_in_the_log_without_it(shown, caplog):
    caplog.set_level(logging.DEBUG)
    with shown.connect() as sock, pytest.raises(HandshakeRefused):
        Viewer(sock, "wrong-pw").look(lambda rfb: rfb.is_connected)
    assert until(lambda: "vnc.refused" in caplog.text)
    assert "wrong-pw" not in caplog.text
    assert PASSWORD not in caplog.text
    assert shown.screen.clients() == 0


def test_who_says_nothing_is_sent_away_in_time(shown, monkeypatch):
    monkeypatch.setattr(module, "_HANDSHAKE_TIMEOUT_S", 0.05)
    with shown.connect() as sock:
        assert sock.recv(64) == b"RFB 003.008\n"
        assert sock.recv(64) == b""
    assert shown.screen.clients() == 0


def test_who_has_shaken_hands_may_be_silent(shown, monkeypatch):
    monkeypatch.setattr(module, "_HANDSHAKE_TIMEOUT_S", 0.4)
    shown.paint(FRAME)
    with shown.connect() as sock:
        viewer = Viewer(sock)
        assert viewer.sees(FRAME)
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert shown.screen.clients() == 1


def test_strangers_that_come_and_vanish_do_no_harm(shown):
    for begun in (b"", b"G", b"GET / HTTP/1.1\r\n\r\n", b"RFB 003.008\n", bytes(40)):
        with shown.connect() as sock:
            sock.sendall(begun)
    shown.paint(FRAME)
    with shown.connect() as sock:
        assert Viewer(sock).sees(FRAME)


def test_closing_ends_every_connection_and_removes_the_socket(tmp_path):
    shown = Shown(tmp_path)
    shown.paint(FRAME)
    with shown.connect() as looking, shown.connect() as silent:
        assert Viewer(looking).sees(FRAME)
        assert silent.recv(64) == b"RFB 003.008\n"
        shown.close()
        assert looking.recv(1) == b""
        assert silent.recv(1) == b""
    assert not shown.path.exists()


def test_closing_twice_is_closing_once(shown):
    shown.loop.run(shown.screen.close())
    shown.loop.run(shown.screen.close())


def test_over_tcp_it_takes_a_free_port(tmp_path):
    shown = Shown(tmp_path, host="127.0.0.1", port=0)
    shown.paint(FRAME)
    with shown.connect() as sock:
        assert Viewer(sock).sees(FRAME)
    assert not shown.path.exists()
    shown.close()


def test_a_viewer_that_reads_nothing_holds_back_only_itself(shown, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BACKLOG_BYTES", 4096)
    with shown.connect() as stuck, shown.connect() as sock:
        other = Viewer(stuck)
        other.look(lambda rfb: rfb.is_connected)
        for _ in range(200):  # each asks for all of it again
            other.rfb.request_update(is_incremental=False)
            stuck.sendall(other.rfb.data_to_send())
            shown.paint(FRAME)
        shown.paint(255 - FRAME)
        assert Viewer(sock).sees(255 - FRAME)
        sizes = [w.transport.get_write_buffer_size() for w in shown.screen._clients.values()]
        assert max(sizes) < 4096 + 2 * FRAME.size
