from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raygym.core import Endpoint, Secret
from raygym.errors import HandshakeRefused, RemoteFailedToStart
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.xvnc_screen import XvncScreen
from tests.support.loop_thread import LoopThread
from tests.support.process_tree import all_end

SIZE_PX = (320, 240)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    it = LoopThread()
    yield it
    it.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rg-") as path:
        yield Path(path)


@pytest.fixture
def screens(loop, directory):
    """Makes screens in the directory and closes them."""
    made: list[XvncScreen] = []

    def make(**options) -> XvncScreen:
        screen = XvncScreen(
            directory,
            width_px=SIZE_PX[0],
            height_px=SIZE_PX[1],
            password="secret12",
            **options,
        )
        made.append(screen)
        return screen

    yield make
    for screen in made:
        loop.run(screen.close())


def x_socket(screen: XvncScreen) -> Path:
    return Path("/tmp/.X11-unix", screen.x_environment["DISPLAY"].replace(":", "X"))


def handshake(endpoint: Endpoint, password: str) -> tuple[int, int]:
    session = VncSession(endpoint, password=Secret(password))
    try:
        session.read_frame(timeout_s=5)
        return session.screen_px
    finally:
        session.close()


def test_it_listens_at_a_private_socket_and_leaves_nothing(loop, directory, screens):
    screen = screens()
    endpoint = loop.run(screen.start())
    assert endpoint == Endpoint(path=str(directory / "vnc.sock"))
    assert handshake(endpoint, "secret12") == SIZE_PX
    for name in ("vnc.sock", "vnc.passwd", "xauthority"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    x_path = x_socket(screen)
    assert x_path.exists()
    loop.run(screen.close())
    assert list(directory.iterdir()) == []
    assert not x_path.exists()


def test_a_wrong_password_is_refused_however_often_and_locks_nobody_out(loop, screens):
    endpoint = loop.run(screens().start())
    for _ in range(7):
        with pytest.raises(HandshakeRefused):
            handshake(endpoint, "wrong")
    assert handshake(endpoint, "secret12") == SIZE_PX


def test_an_x_client_without_the_cookie_is_refused(loop, screens):
    screen = screens()
    loop.run(screen.start())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(x_socket(screen)))
        client.sendall(b"l\0\x0b\0\0\0\0\0\0\0\0\0")  # little endian, X11, no authorisation
        assert client.recv(1) == b"\0"


def test_it_counts_its_vnc_clients(loop, screens):
    for options in ({}, {"host": "127.0.0.1"}):
        screen = screens(**options)
        endpoint = loop.run(screen.start())
        assert screen.clients() == 0
        session = VncSession(endpoint, password=Secret("secret12"))
        assert screen.clients() == 1
        session.close()
        loop.run(screen.close())
        assert screen.clients() == 0


def test_over_tcp_it_takes_a_free_port_of_loopback(loop, screens):
    endpoint = loop.run(screens(host="127.0.0.1").start())
    assert endpoint.host == "127.0.0.1"
    assert handshake(endpoint, "secret12") == SIZE_PX
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", endpoint.port), timeout=5)


def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(loop, screens, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1]]
        from raygym.runtimes import xvnc_screen

        free_port = xvnc_screen._free_port
        monkeypatch.setattr(
            xvnc_screen, "_free_port", lambda host: ports.pop() if ports else free_port(host)
        )
        endpoint = loop.run(screens(host="127.0.0.1").start())
        assert endpoint.port != taken.getsockname()[1]
        assert handshake(endpoint, "secret12") == SIZE_PX


def test_a_chosen_port_that_is_taken_is_an_error_that_names_it(loop, screens):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RemoteFailedToStart, match=rf"127.0.0.1:{port} ended .*another port"):
            loop.run(screens(host="127.0.0.1", port=port).start())


def test_its_death_is_noticed_and_what_it_left_is_removed(loop, directory, screens):
    screen = screens()
    loop.run(screen.start())
    x_path = x_socket(screen)
    os.kill(screen.pid, signal.SIGKILL)
    assert f"pid {screen.pid}) ended with exit code -9" in loop.run(screen.wait_lost())
    assert screen.clients() == 0
    assert x_path.exists()
    loop.run(screen.close())
    assert not x_path.exists()
    assert list(directory.iterdir()) == []


def test_screens_side_by_side_have_displays_of_their_own(loop, tmp_path_factory):
    screens = []
    with tempfile.TemporaryDirectory(prefix="rg-") as parent:
        for number in range(3):
            directory = Path(parent, str(number))
            directory.mkdir()
            screens.append(XvncScreen(directory, width_px=64, height_px=64, password="secret12"))
        endpoints = [loop.run(screen.start()) for screen in screens]
        assert len({screen.x_environment["DISPLAY"] for screen in screens}) == 3
        assert [handshake(endpoint, "secret12") for endpoint in endpoints] == [(64, 64)] * 3
        for screen in screens:
            loop.run(screen.close())
    assert all_end(screen.pid for screen in screens)
