"""Whole messages over a socket pair."""

from __future__ import annotations

import os

import pytest

from raygym.errors import RemoteProtocolError
from raygym.vector.channel import Channel


@pytest.mark.parametrize("size", [1, 1000, 32 * 1024, 32 * 1024 + 1, 3_000_000])
def test_a_message_of_any_length_comes_whole(size: int) -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    message = os.urandom(size)
    ours.send(message)
    ours.send(b"next")
    assert other.recv() == (message, ())
    assert other.recv() == (b"next", ())
    other.send(message[::-1])
    assert ours.recv() == (message[::-1], ())
    ours.close()
    other.close()


def test_descriptors_go_with_a_message() -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    read, write = os.pipe()
    ours.send(b"here", (write,))
    os.close(write)
    received = other.recv()
    assert received is not None
    message, (fd,) = received
    assert message == b"here"
    os.write(fd, b"hello")
    os.close(fd)
    assert os.read(read, 10) == b"hello"
    os.close(read)
    ours.close()
    other.close()


def test_there_is_nothing_until_something_is_sent() -> None:
    ours, theirs = Channel.pair()
    with theirs:
        assert ours.recv() is None
    ours.close()


def test_a_closed_end_is_told_after_what_it_still_said() -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    other.send(b"last")
    other.close()
    assert ours.recv() == (b"last", ())
    with pytest.raises(EOFError):
        ours.recv()
    with pytest.raises(OSError, match="Broken pipe"):
        ours.send(b"anybody?")
    ours.close()
    ours.close()


def test_an_end_that_takes_nothing_is_told_instead_of_waited_for() -> None:
    ours, theirs = Channel.pair()

    def fill() -> None:
        for _ in range(100_000):
            ours.send(bytes(30_000))

    with theirs, pytest.raises(BlockingIOError):
        fill()
    ours.close()


def test_a_packet_that_is_too_long_is_refused() -> None:
    ours, theirs = Channel.pair()
    with theirs:
        theirs.send(b"." + bytes(40_000))
        with pytest.raises(RemoteProtocolError, match="32769 bytes"):
            ours.recv()
    ours.close()
