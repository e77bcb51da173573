"""Frames come out as they went in, however the stream is cut."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import LocalProtocolError, RemoteProtocolError
from raygym.wire.framing import MAX_MESSAGE_BYTES, FrameReader, frame


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=12))
def test_messages_come_out_in_order_wherever_the_stream_is_cut(messages, cuts):
    stream = b"".join(map(frame, messages))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    seen = []
    for begin, end in pairwise(edges):
        seen += reader.feed(memoryview(stream)[begin:end])
    assert seen == messages
    assert not reader.is_midway


def test_the_length_is_four_bytes_little_endian():
    assert frame(b"abc") == b"\x03\x00\x00\x00abc"


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_messages_are_bytes_whatever_came(wrap):
    (message,) = FrameReader().feed(wrap(frame(b"abc")))
    assert type(message) is bytes
    assert message == b"abc"


def test_a_reader_knows_that_it_is_midway():
    reader = FrameReader()
    assert reader.feed(frame(b"abc") + b"\x05") == [b"abc"]
    assert reader.is_midway


def test_a_message_too_long_is_not_sent():
    assert frame(b"abcd", 4)
    with pytest.raises(LocalProtocolError, match="5 bytes is longer than the 4"):
        frame(b"abcde", 4)


@pytest.mark.parametrize("piece", [1, 4, 100])
def test_a_message_too_long_is_refused_as_soon_as_it_is_announced(piece):
    stream = frame(b"ok") + (5).to_bytes(4, "little")
    reader = FrameReader(4)
    pieces = [stream[begin : begin + piece] for begin in range(0, len(stream), piece)]
    for early in pieces[:-1]:
        reader.feed(early)
    with pytest.raises(RemoteProtocolError, match="5 bytes was announced, at most 4"):
        reader.feed(pieces[-1])


def test_a_long_announcement_allocates_nothing():
    tracemalloc.start()
    try:
        FrameReader().feed(MAX_MESSAGE_BYTES.to_bytes(4, "little") + b"abc")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=64))
def test_any_stream_gives_messages_or_a_refusal(stream):
    reader = FrameReader(1000)
    try:
        for message in reader.feed(stream):
            assert len(message) <= 1000
    except RemoteProtocolError:
        return
