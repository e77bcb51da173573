from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from raygym.runtimes import reward_channel as module
from raygym.runtimes.reward_channel import RewardChannel
from raygym.wire.rewarder import request_headers
from raygym.wire.rewarder_server import RewarderServer
from tests.support.loop_thread import LoopThread
from tests.support.universe_client import UniverseClient

ENV, PASSWORD = "scripted.One-v0", "hunter22"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:10003\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"authorization: Basic b3BlbmFpOg==\r\nopenai-observer: true\r\n\r\n"
)


class Listening:
    """A reward channel on a thread."""

    def __init__(self, directory: Path, **where) -> None:
        self.server = RewarderServer(password=PASSWORD, env_ids=[ENV], fps=25)
        self.asked: list[str] = []
        self.loop = LoopThread()
        self.path = directory / "rewarder.sock"
        self.channel = RewardChannel(
            self.server, directory, lambda reset: self.asked.append(reset.env_id), **where
        )
        self.endpoint = self.loop.run(self.channel.start())

    def join(self, password: str = PASSWORD, **settings) -> UniverseClient:
        return UniverseClient(self.path, password, **settings)

    def text(self, text: str, *, times: int = 1) -> None:
        """Sends texts to all, without giving the loop a chance between them."""

        async def send() -> None:
            for _ in range(times):
                self.channel.send(self.server.text(text, now_s=1.0))

        self.loop.run(send())

    def is_well(self) -> bool:
        client = self.join(observer=True)
        client.send("v0.control.ping")
        answer = client.until("v0.reply.control.ping")
        client.close()
        return answer is not None

    def close(self) -> None:
        self.loop.run(self.channel.close("the test is over"))
        self.loop.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    it = Listening(tmp_path)
    yield it
    it.close()


def raw(listening: Listening) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(listening.path))
    return sock


def test_a_reset_reaches_the_owner(listening):
    client = listening.join()
    client.ask_reset(ENV)
    client.send("v0.control.ping")
    client.until("v0.reply.control.ping")
    assert listening.asked == [ENV]
    client.close()


def test_a_wrong_password_is_told_after_the_upgrade_then_closed_normally(listening):
    client = listening.join("hunter23")
    assert client.next()["body"]["message"] == "Invalid password"
    with pytest.raises(ConnectionClosed) as closed:
        client.next()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "Invalid password")
    client.close()


def test_two_authorizations_in_one_request_are_refused_in_the_same_way(listening):
    twice = [*request_headers(PASSWORD), *request_headers(PASSWORD)]
    with unix_connect(
        str(listening.path), uri="ws://localhost/", additional_headers=twice
    ) as websocket:
        assert "Could not parse authorization header" in str(websocket.recv(timeout=5))
    assert listening.is_well()


def test_a_binary_frame_ends_its_connection_only(listening):
    client = listening.join()
    client.next()
    client.websocket.send(b"\x00")
    with pytest.raises(ConnectionClosed) as closed:
        client.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003
    client.close()
    assert listening.is_well()


def test_an_endless_message_ends_its_connection_only(listening):
    client = listening.join()
    client.next()
    client.websocket.send("x" * (1 << 21))
    with pytest.raises(ConnectionClosed):
        client.next()
    client.close()
    assert listening.is_well()


def test_a_malformed_message_is_answered_with_what_was_wrong(listening):
    client = listening.join()
    client.next()
    client.websocket.send("[]")
    assert "no message with a method" in client.next()["body"]["message"]
    with pytest.raises(ConnectionClosed):
        client.next()
    client.close()


def test_strangers_that_come_and_vanish_leave_no_trace(listening, caplog):
    caplog.set_level(logging.DEBUG)
    for _ in range(10):
        raw(listening).close()
    for begun in (b"G", UPGRADE[:40], b"\x16\x03\x01", b"SSH-2.0-x\r\n"):
        with raw(listening) as sock:
            sock.sendall(begun)
    with raw(listening) as sock:
        sock.sendall(UPGRADE)
        assert sock.recv(1) == b"H"
    assert listening.is_well()
    assert [r for r in caplog.records if r.name.startswith(("raygym", "websockets.server"))] == []


def test_who_leaves_without_a_farewell_is_forgotten(listening):
    client = listening.join()
    client.send("v0.control.ping")
    client.until("v0.reply.control.ping")
    client.websocket.socket.shutdown(socket.SHUT_RDWR)
    after = listening.join()
    after.send("v0.control.ping")
    after.until("v0.reply.control.ping")  # the place of the active client is free
    after.close()
    client.close()


def test_a_client_whose_messages_pile_up_is_dropped_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_QUEUED", 3)
    listening = Listening(tmp_path)
    client = listening.join()
    client.next()
    listening.text("much", times=4)
    with pytest.raises(ConnectionClosed) as closed:
        client.until("v0.env.text", text="never")
    assert closed.value.rcvd is not None
    assert "too slow" in closed.value.rcvd.reason
    client.close()
    assert listening.is_well()
    listening.close()


def test_messages_arrive_in_order(listening):
    client = listening.join()
    for number in range(50):
        listening.text(str(number))
    texts = [client.until("v0.env.text")["body"]["text"] for _ in range(50)]
    assert texts == [str(number) for number in range(50)]
    client.close()


def test_closing_says_why_and_removes_the_socket(tmp_path):
    listening = Listening(tmp_path)
    client = listening.join()
    client.next()
    listening.close()
    assert client.next()["body"]["message"] == "the test is over"
    with pytest.raises(ConnectionClosed):
        client.next()
    client.close()
    assert not listening.path.exists()


def test_closing_twice_is_closing_once(listening):
    listening.loop.run(listening.channel.close("once"))
    listening.loop.run(listening.channel.close("twice"))


def test_a_socket_left_by_one_that_was_killed_is_replaced(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "rewarder.sock"))
    left.close()
    listening = Listening(tmp_path)
    assert listening.is_well()
    listening.close()


def test_over_tcp_it_takes_a_free_port(tmp_path):
    listening = Listening(tmp_path, host="127.0.0.1", port=0)
    assert listening.endpoint.host == "127.0.0.1"
    assert not listening.path.exists()
    with connect(
        f"ws://127.0.0.1:{listening.endpoint.port}/",
        additional_headers=request_headers(PASSWORD),
        proxy=None,
    ) as websocket:
        assert "v0.env.describe" in str(websocket.recv(timeout=5))
    listening.close()
