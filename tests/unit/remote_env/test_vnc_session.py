from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from raygym.catalog import Region
from raygym.config import VncOptions
from raygym.core import Endpoint, Secret, UInt8Array
from raygym.errors import (
    FrameTimeout,
    HandshakeRefused,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
)
from raygym.remote_env.controls import KeyInput, PointerInput
from raygym.remote_env.vnc_session import VncSession
from raygym.wire.rfb_events import KeyEvent, PointerEvent
from raygym.wire.rfb_server import RfbServer

WIDTH, HEIGHT = 40, 30


class Screen:
    """One RFB server on a unix socket; frames are sent when the test paints."""

    def __init__(self, path: Path, password: str | None = "secret") -> None:
        self.endpoint = Endpoint(path=str(path))
        self.events: list[object] = []
        self._password = password
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._lock = threading.Lock()
        self._rfb: RfbServer | None = None
        self._connection: socket.socket | None = None
        self._pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def paint(self, value: int) -> None:
        with self._lock:
            self._pixels = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
            self._send()

    def hang_up(self) -> None:
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def say(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._connection is not None:
            self.hang_up()
        self._thread.join(5)
        if self._connection is not None:
            self._connection.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with self._lock:
            self._connection = connection
            self._rfb = RfbServer(width=WIDTH, height=HEIGHT, name="test", password=self._password)
            connection.sendall(self._rfb.data_to_send())
        try:
            while data := connection.recv(4096):
                with self._lock:
                    self.events += self._rfb.receive_data(data)
                    self._send()
        except OSError:
            pass
        except (HandshakeRefused, RemoteProtocolError):
            connection.sendall(self._rfb.data_to_send())
            connection.shutdown(socket.SHUT_RDWR)

    def _send(self) -> None:
        assert self._rfb is not None
        assert self._connection is not None
        self._rfb.send_frame(self._pixels)
        self._connection.sendall(self._rfb.data_to_send())


@pytest.fixture
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    screen = Screen(tmp_path_factory.mktemp("s") / "vnc.sock")
    yield screen
    screen.close()


@pytest.fixture
def session(screen: Screen) -> Iterator[VncSession]:
    session = VncSession(screen.endpoint, password=Secret("secret"))
    yield session
    session.close()


def value(pixels: UInt8Array) -> int:
    """Returns the brightness of a picture that has only one."""
    assert (pixels[:, :, :3] == pixels[0, 0, 0]).all()
    return int(pixels[0, 0, 0])


def frame_of(session: VncSession, wanted: int, timeout_s: float = 10.0) -> int:
    """Waits for a frame of that brightness; returns its number."""
    number = 0
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        frame = session.read_frame(newer_than=number, timeout_s=timeout_s)
        number = frame.number
        if value(frame.pixels) == wanted:
            return number
    raise AssertionError(f"no frame of brightness {wanted}")


def wait_for_events(screen: Screen, count: int) -> list[object]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [e for e in screen.events if isinstance(e, KeyEvent | PointerEvent)]
        if len(found) >= count:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{count} events expected, got {screen.events}")


def test_a_frame_is_the_whole_screen_and_cannot_be_written(session: VncSession) -> None:
    frame = session.read_frame()
    assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
    assert frame.number == 1
    assert session.screen_px == (WIDTH, HEIGHT)
    assert 0 <= time.monotonic() - frame.arrived_s < 10
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1


def test_what_is_painted_arrives(screen: Screen, session: VncSession) -> None:
    session.read_frame()
    for brightness in (50, 60, 70):
        screen.paint(brightness)
        frame_of(session, brightness)
    assert session.stats.updates >= 4
    assert session.stats.pixels >= 4 * WIDTH * HEIGHT
    assert session.stats.bytes >= session.stats.pixels
    assert 0.0 < session.stats.decode_s < 10.0


@pytest.mark.parametrize("encoding", ["raw", "tight", "zrle"])
def test_every_encoding_is_understood(screen: Screen, encoding: str) -> None:
    options = VncOptions(encoding=encoding)  # type: ignore[arg-type]
    session = VncSession(screen.endpoint, password=Secret("secret"), options=options)
    screen.paint(200)
    frame_of(session, 200)
    session.close()


def test_without_a_change_a_read_times_out(session: VncSession) -> None:
    number = session.read_frame().number
    with pytest.raises(FrameTimeout, match=r"within 0\.05 s"):
        session.read_frame(newer_than=number, timeout_s=0.05)


def test_a_whole_screen_comes_on_request_even_if_nothing_changed(session: VncSession) -> None:
    number = session.read_frame().number
    session.request_whole_screen()
    assert session.read_frame(newer_than=number).number > number


def test_only_the_watched_regions_are_copied(screen: Screen, session: VncSession) -> None:
    session.read_frame()
    session.watch(Region(2, 3, 10, 5), Region(0, 29, 40, 1))
    screen.paint(90)
    frame_of(session, 90)
    snapshot = session.take()
    assert snapshot is not None
    assert [p.shape for p in snapshot.pictures] == [(5, 10, 4), (1, 40, 4)]
    assert [value(p) for p in snapshot.pictures] == [90, 90]


def test_a_region_off_the_screen_is_refused(session: VncSession) -> None:
    with pytest.raises(SessionLost, match="the screen is 40x30, too small for 41x1"):
        session.watch(Region(0, 0, 41, 1))


def test_a_taken_snapshot_stays_while_newer_ones_arrive(
    screen: Screen, session: VncSession
) -> None:
    session.read_frame()
    screen.paint(10)
    number = frame_of(session, 10)
    held = session.take()
    assert held is not None
    for brightness in (20, 30, 40):
        screen.paint(brightness)
        assert session.wait_frame(newer_than=number, until_s=time.monotonic() + 10)
        number += 1
    assert value(held.pictures[0]) == 10
    newest = session.take()
    assert newest is not None
    assert newest.number > held.number


def test_a_wait_may_ask_for_a_frame_that_arrives_late_enough(
    screen: Screen, session: VncSession
) -> None:
    frame = session.read_frame()
    late_s = time.monotonic() + 0.02
    assert not session.wait_frame(not_before_s=late_s, until_s=late_s + 0.01)
    screen.paint(5)
    assert session.wait_frame(not_before_s=late_s, until_s=time.monotonic() + 10)
    assert session.wait_frame(not_before_s=frame.arrived_s, until_s=0.0)


def test_inputs_reach_the_server_in_order(screen: Screen, session: VncSession) -> None:
    session.send([KeyInput(0xFF52, True), PointerInput(3, 4, 1), KeyInput(0xFF52, False)])
    assert wait_for_events(screen, 3) == [
        KeyEvent(0xFF52, True),
        PointerEvent(3, 4, 1),
        KeyEvent(0xFF52, False),
    ]


def test_a_lost_connection_wakes_who_waits_and_refuses_more(
    screen: Screen, session: VncSession
) -> None:
    number = session.read_frame().number
    threading.Timer(0.05, screen.hang_up).start()
    with pytest.raises(SessionLost, match="closed the connection"):
        session.read_frame(newer_than=number, timeout_s=10)
    assert session.lost is not None
    with pytest.raises(SessionLost):
        session.send([KeyInput(0x61, True)])


def test_what_is_no_rfb_ends_the_session_with_its_cause(
    screen: Screen, session: VncSession
) -> None:
    number = session.read_frame().number
    screen.say(b"\xee" * 64)
    with pytest.raises(SessionLost):
        session.read_frame(newer_than=number, timeout_s=10)
    assert session.lost is not None
    assert isinstance(session.lost.__cause__, RemoteProtocolError)


def test_closing_ends_the_reader_and_may_be_done_twice(session: VncSession) -> None:
    session.read_frame()
    session.close()
    session.close()
    assert not any(thread.name.startswith("vnc ") for thread in threading.enumerate())
    with pytest.raises(SessionLost, match="closed here"):
        session.send([KeyInput(0x61, True)])


def test_a_wrong_password_is_refused(screen: Screen) -> None:
    with pytest.raises(HandshakeRefused):
        VncSession(screen.endpoint, password=Secret("wrong"))


def test_nobody_there_is_told_when_the_time_is_up(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RemoteUnreachable, match="nobody accepted"):
        VncSession(Endpoint(path=str(tmp_path / "no.sock")), password=None, connect_timeout_s=0.2)
    assert 0.1 < time.monotonic() - began < 5


@pytest.mark.parametrize("banner", [b"", b"RFB 003.008\n"])
def test_a_server_that_falls_silent_is_given_up(
    tmp_path_factory: pytest.TempPathFactory, banner: bytes
) -> None:
    path = tmp_path_factory.mktemp("m") / "vnc.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connections = []

        def greet() -> None:
            connection, _ = listener.accept()
            connections.append(connection)
            connection.sendall(banner)

        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(RemoteUnreachable, match="did not end in time"):
            VncSession(Endpoint(path=str(path)), password=None, connect_timeout_s=0.2)
        greeter.join(5)
        connections[0].close()


def test_a_server_that_hangs_up_in_the_handshake_is_unreachable(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("m") / "vnc.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        closer = threading.Thread(target=lambda: listener.accept()[0].close())
        closer.start()
        with pytest.raises(RemoteUnreachable):
            VncSession(Endpoint(path=str(path)), password=None, connect_timeout_s=5)
        closer.join(5)


def test_a_server_on_tcp_is_reached_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closer = threading.Thread(target=lambda: listener.accept()[0].close())
        closer.start()
        endpoint = Endpoint(host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(RemoteUnreachable, match="127"):
            VncSession(endpoint, password=None, connect_timeout_s=5)
        closer.join(5)
