from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from raygym.runtimes.lockstep.frames import (
    FrameTooLong,
    read_frame,
    read_frame_soon,
    write_frame,
    write_frame_soon,
)
from raygym.wire.proto import raygym_v1_pb2 as pb


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def read_either_way(how: str, sock: socket.socket, max_bytes: int = 2**20):
    if how == "blocking":
        sock.setblocking(True)
        return read_frame(sock, max_bytes, lambda: None)
    sock.setblocking(False)
    return asyncio.run(read_frame_soon(sock, max_bytes))


def send_in_background(sock: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    return thread


@pytest.mark.parametrize("how", ["blocking", "async"])
@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1_000_000])
def test_a_message_of_any_size_arrives_whole(pair, how, size):
    ours, theirs = pair
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    thread = threading.Thread(target=write_frame, args=(ours, message))
    thread.start()
    assert read_either_way(how, theirs) == message
    thread.join()


@pytest.mark.parametrize("how", ["blocking", "async"])
def test_messages_are_cut_where_they_end(pair, how):
    ours, theirs = pair
    ours.sendall(b"\x02\0\0\0ab\x01\0\0\0c")
    assert read_either_way(how, theirs) == b"ab"
    assert read_either_way(how, theirs) == b"c"


@pytest.mark.parametrize("how", ["blocking", "async"])
@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02\0\0\0a", (2**20).to_bytes(4, "little")])
def test_a_peer_that_hangs_up_midway_ends_the_stream(pair, how, data):
    ours, theirs = pair
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    assert read_either_way(how, theirs) is None


@pytest.mark.parametrize("how", ["blocking", "async"])
@pytest.mark.parametrize("request_id", [0, 1, 300, 2**64 - 1])
def test_a_message_too_long_is_skipped_and_its_id_is_known(pair, how, request_id):
    ours, theirs = pair
    message = pb.Request(id=request_id, hello=pb.Hello(client_id="x" * 500_000)).SerializeToString()
    thread = send_in_background(ours, len(message).to_bytes(4, "little") + message + b"\x01\0\0\0z")
    with pytest.raises(FrameTooLong) as too_long:
        read_either_way(how, theirs, 1000)
    response = too_long.value.response
    assert (response.id, response.error.code) == (request_id, pb.Error.RESOURCE_EXHAUSTED)
    assert "1000" in response.error.message
    assert read_either_way(how, theirs, 1000) == b"z"
    thread.join()


def test_the_async_writer_frames_too(pair):
    ours, theirs = pair
    theirs.setblocking(False)
    asyncio.run(write_frame_soon(theirs, b"abc"))
    assert ours.recv(10) == b"\x03\0\0\0abc"
