from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from raygym.errors import LocalProtocolError, RemoteProtocolError, SessionLost, StepTimeout
from raygym.remote_env.rpc.framed_channel import FramedChannel

LONG_S = 30.0
MAX_BYTES = 2**22


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "little") + message


def read(peer: socket.socket) -> bytes:
    with peer.makefile("rb") as file:
        return file.read(int.from_bytes(file.read(4), "little"))


@pytest.fixture
def pair() -> Iterator[tuple[FramedChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(LONG_S)
    channel = FramedChannel(ours, name="peer", max_message_bytes=MAX_BYTES)
    yield channel, theirs
    channel.close()
    theirs.close()


def answering(peer: socket.socket, answer: Callable[[bytes], None]) -> threading.Thread:
    def run() -> None:
        answer(read(peer))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, 65532, 65533, 65536, 3_000_000])
def test_messages_of_any_size_go_both_ways(pair, size):
    channel, peer = pair
    message = secrets.token_bytes(size)
    thread = answering(peer, lambda request: peer.sendall(framed(request[::-1])))
    assert channel.ask(message, timeout_s=LONG_S) == message[::-1]
    thread.join(LONG_S)


@pytest.mark.parametrize("size", [5, 66_000])
def test_an_answer_may_come_in_pieces(pair, size):
    channel, peer = pair
    message = secrets.token_bytes(size)

    def answer(_request: bytes) -> None:
        data = framed(message)
        for byte in data[:9]:
            peer.sendall(bytes([byte]))
        peer.sendall(data[9:])

    thread = answering(peer, answer)
    started_s = time.monotonic()
    assert channel.ask(b"x", timeout_s=LONG_S) == message
    assert time.monotonic() - started_s < LONG_S
    thread.join(LONG_S)


@pytest.mark.parametrize(
    "begun", [b"", b"\x09", framed(b"123456789")[:7], b"\0\0\x02\0" + b"1" * 9]
)
def test_a_deadline_closes_the_channel(pair, begun):
    channel, peer = pair
    peer.sendall(begun)
    with pytest.raises(StepTimeout, match=r"peer did not answer within 0\.05 s"):
        channel.ask(b"x", timeout_s=0.05)
    with pytest.raises(SessionLost, match="open another"):
        channel.ask(b"x", timeout_s=0.05)
    peer.recv(100)
    assert peer.recv(100) == b""


def test_a_peer_that_reads_nothing_is_a_timeout_too(pair):
    channel, _peer = pair
    with pytest.raises(StepTimeout):
        channel.ask(bytes(MAX_BYTES), timeout_s=0.05)


@pytest.mark.parametrize(
    "begun", [b"", b"\x09", framed(b"123456789")[:7], b"\0\0\x02\0" + b"1" * 9]
)
def test_a_peer_that_hangs_up_is_lost_at_once(pair, begun):
    channel, peer = pair
    peer.sendall(begun)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(SessionLost, match="peer hung up"):
        channel.ask(b"x", timeout_s=LONG_S)


def test_a_peer_that_is_gone_is_lost_at_once(pair):
    channel, peer = pair
    peer.close()
    with pytest.raises(SessionLost):
        channel.ask(b"x", timeout_s=LONG_S)


def test_an_answer_that_is_too_long_is_refused(pair):
    channel, peer = pair
    peer.sendall(b"HTTP/1.1 400 Bad Request")
    with pytest.raises(RemoteProtocolError, match=r"does it speak raygym\.v1|Does it speak"):
        channel.ask(b"x", timeout_s=LONG_S)
    with pytest.raises(SessionLost):
        channel.ask(b"x", timeout_s=LONG_S)


def test_more_than_one_answer_is_refused(pair):
    channel, peer = pair
    peer.sendall(framed(b"one") + framed(b"two"))
    with pytest.raises(RemoteProtocolError):
        channel.ask(b"x", timeout_s=LONG_S)


def test_a_request_that_is_too_long_is_not_sent_and_does_no_harm(pair):
    channel, peer = pair
    with pytest.raises(LocalProtocolError, match="fewer environments"):
        channel.ask(bytes(MAX_BYTES + 1), timeout_s=LONG_S)
    thread = answering(peer, lambda _request: peer.sendall(framed(b"well")))
    assert channel.ask(b"x", timeout_s=LONG_S) == b"well"
    thread.join(LONG_S)


@pytest.mark.parametrize("is_abstract", [True, False])
def test_it_opens_files_and_abstract_names(tmp_path, is_abstract):
    name = f"\0raygym-test-{secrets.token_hex(8)}" if is_abstract else str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        with pytest.raises(OSError, match=r"refused|No such file"):
            FramedChannel.open(name, timeout_s=LONG_S)
        listener.bind(name)
        listener.listen()
        channel = FramedChannel.open(name, timeout_s=LONG_S)
        peer, _ = listener.accept()
        thread = answering(peer, lambda _request: peer.sendall(framed(b"here")))
        assert channel.ask(b"x", timeout_s=LONG_S) == b"here"
        thread.join(LONG_S)
        channel.close()
        channel.close()
        peer.close()
