"""Whatever comes, both ends answer with a ProtocolError or go on, soon and in bounded memory."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused, RemoteProtocolError
from raygym.wire.encodings import Encoding
from raygym.wire.rfb_client import RfbClient
from raygym.wire.rfb_server import RfbServer
from tests.support.rfb import handshake, rectangle, update

GOLDEN = Path(__file__).parents[2] / "golden"
STREAMS = [
    gzip.decompress(path.read_bytes())
    for path in sorted(GOLDEN.glob("*.rfb.gz"))
    if path.name != "raw.rfb.gz"
]
LARGEST_SCREEN_BYTES = 5120 * 2880 * 5
FUZZ = settings(max_examples=150, deadline=3000)


def check(act: Callable[[], object]) -> None:
    """Runs an end; it may raise one of two errors, in words of its own, and nothing else."""
    said = "RFB"
    try:
        act()
    except (RemoteProtocolError, HandshakeRefused) as error:
        said = str(error)
    assert said.startswith("RFB")


def feed(data: bytes, *, chunk_bytes: int = 1 << 14) -> None:
    """Feeds a fresh client."""
    client = RfbClient(password="golden12", options=VncOptions())

    def act() -> None:
        for begin in range(0, len(data), chunk_bytes):
            client.receive_data(data[begin : begin + chunk_bytes])
            client.data_to_send()

    check(act)
    assert client.framebuffer.nbytes <= 5120 * 2880 * 4


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(STREAMS)))
    for _ in range(draw(st.integers(1, 4))):
        # Small places come first: most of what matters is near a header.
        place = draw(st.one_of(st.integers(0, 200), st.integers(0, len(data))))
        kind = draw(st.sampled_from(["set", "remove", "insert", "cut"]))
        if kind == "set":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 20))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=20))
        else:
            del data[max(place, 1) :]
    return bytes(data)


@FUZZ
@given(damaged_streams())
def test_a_damaged_recording_gives_a_picture_or_a_protocol_error(data):
    feed(data)


@st.composite
def made_up_rectangles(draw: st.DrawFn) -> bytes:
    width, height = draw(st.integers(0, 70)), draw(st.integers(0, 70))
    x, y = draw(st.integers(0, 80 - width)), draw(st.integers(0, 80 - height))
    encoding = draw(st.sampled_from(list(Encoding)))
    return rectangle(x, y, width, height, encoding, draw(st.binary(max_size=300)))


@FUZZ
@given(st.lists(made_up_rectangles(), min_size=1, max_size=3))
def test_made_up_rectangles_give_a_picture_or_a_protocol_error(rectangles):
    feed(handshake(80, 80) + update(*rectangles))


@FUZZ
@given(st.binary(max_size=400), st.booleans())
def test_made_up_bytes_give_a_picture_or_a_protocol_error(data, is_connected):
    feed((handshake(80, 80) if is_connected else b"RFB 003.008\n") + data, chunk_bytes=7)


@settings(max_examples=25, deadline=None)
@given(damaged_streams())
def test_a_damaged_recording_takes_bounded_memory(data):
    tracemalloc.start()
    try:
        feed(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two screens live at once during a resize; the rest are a few copies of the stream.
    assert peak_bytes < 2 * LARGEST_SCREEN_BYTES + 20 * len(data) + (16 << 20)


@pytest.mark.parametrize(
    "announcement",
    [
        b"\x03\x00\x00\x00" + struct.pack(">I", 1 << 31),
        update(rectangle(0, 0, 40, 40, Encoding.ZRLE, struct.pack(">I", 1 << 31))),
        update(rectangle(0, 0, 65535, 65535, Encoding.DESKTOP_SIZE)),
        update(rectangle(0, 0, 65535, 65535, Encoding.RAW)),
        update(count=65535),
        update(rectangle(0, 0, 40, 40, Encoding.TIGHT, b"\x00\xff\xff\xff")),
        b"\x01\x00" + struct.pack(">HH", 0, 65535),
    ],
)
def test_an_announcement_alone_allocates_nothing(announcement):
    client = RfbClient(password=None, options=VncOptions())
    client.receive_data(handshake(40, 40))
    tracemalloc.start()
    try:
        with contextlib.suppress(RemoteProtocolError):
            client.receive_data(announcement)
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 100_000


def test_a_server_takes_made_up_bytes_too():
    @FUZZ
    @given(st.binary(max_size=300), st.booleans())
    def feed_server(data: bytes, is_ready: bool) -> None:
        server = RfbServer(width=8, height=8, name="", password=None, challenge=bytes(16))
        opening = b"RFB 003.008\n\x01\x01" if is_ready else b""

        def act() -> None:
            server.receive_data(opening + data)
            server.send_frame(np.zeros((8, 8, 3), np.uint8))

        check(act)

    feed_server()
