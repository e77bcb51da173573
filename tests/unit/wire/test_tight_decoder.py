from __future__ import annotations

import zlib

import numpy as np
import pytest

from raygym.errors import RemoteProtocolError
from raygym.wire.encoder import compact_length
from raygym.wire.encodings import Encoding
from raygym.wire.tight_decoder import undo_gradient
from tests.support.rfb import connected_client, rectangle, update

RNG = np.random.default_rng(0)
EXPLICIT = 0x40
COPY, PALETTE, GRADIENT = bytes([0]), bytes([1]), bytes([2])


class Streams:
    """The four zlib streams, from the server's side."""

    def __init__(self) -> None:
        self.streams = [zlib.compressobj() for _ in range(4)]

    def pack(self, number: int, plain: bytes) -> bytes:
        stream = self.streams[number]
        data = stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)
        return compact_length(len(data)) + data


def packed(plain: bytes) -> bytes:
    return Streams().pack(0, plain)


def painted(width: int, height: int, *bodies: bytes) -> np.ndarray:
    """Sends whole-screen Tight rectangles; returns the screen, uint8[H, W, 3]."""
    client = connected_client(width, height)
    for body in bodies:
        client.receive_data(update(rectangle(0, 0, width, height, Encoding.TIGHT, body)))
    return client.framebuffer[..., :3]


def colours(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 3), np.uint8)


def palette(values: np.ndarray) -> bytes:
    return PALETTE + bytes([len(values) - 1]) + values.tobytes()


def test_a_fill_paints_one_colour():
    assert (painted(5, 4, b"\x80\x01\x02\x03") == [1, 2, 3]).all()


def test_plain_pixels_are_painted_as_they_are():
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    assert np.array_equal(painted(7, 6, b"\x00" + packed(picture.tobytes())), picture)


def test_the_copy_filter_may_be_named():
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    body = bytes([EXPLICIT]) + COPY + packed(picture.tobytes())
    assert np.array_equal(painted(7, 6, body), picture)


def test_under_twelve_bytes_are_neither_compressed_nor_counted():
    picture = RNG.integers(0, 256, (1, 3, 3), np.uint8)
    assert np.array_equal(painted(3, 1, b"\x00" + picture.tobytes()), picture)


@pytest.mark.parametrize("count", [3, 4, 17, 256])
def test_a_palette_has_a_byte_for_each_pixel(count):
    chosen = colours(count)
    indices = RNG.integers(0, count, (20, 30), np.uint8)
    body = bytes([EXPLICIT]) + palette(chosen) + packed(indices.tobytes())
    assert np.array_equal(painted(30, 20, body), chosen[indices])


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64])
def test_two_colours_have_a_bit_for_each_pixel_and_whole_bytes_for_each_row(width):
    chosen = colours(2)
    indices = RNG.integers(0, 2, (20, width), np.uint8)
    bits = np.packbits(indices, axis=1).tobytes()
    body = bytes([EXPLICIT]) + palette(chosen) + packed(bits)
    assert np.array_equal(painted(width, 20, body), chosen[indices])


def test_a_palette_of_one_colour_ignores_its_bits():
    chosen = colours(1)
    body = bytes([EXPLICIT]) + palette(chosen) + packed(RNG.bytes(20))
    assert (painted(8, 20, body) == chosen[0]).all()


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x01\x02\x03",
        b"\x00",
        bytes([EXPLICIT]) + GRADIENT,
        bytes([EXPLICIT]) + palette(colours(2)),
        bytes([EXPLICIT]) + palette(colours(3)),
    ],
)
def test_an_empty_rectangle_paints_nothing(size, body):
    client = connected_client(7, 6)
    client.receive_data(update(rectangle(1, 1, *size, Encoding.TIGHT, body)) + b"\x02")
    assert not client.framebuffer.any()
    assert not client.is_updating


def gradient_of(picture: np.ndarray) -> np.ndarray:
    """The differences that a server would send, pixel by pixel as the specification says."""
    height, width, _ = picture.shape
    padded = np.zeros((height + 1, width + 1, 3), int)
    padded[1:, 1:] = picture
    differences = np.zeros_like(picture)
    for y in range(height):
        for x in range(width):
            predicted = padded[y + 1, x] + padded[y, x + 1] - padded[y, x]
            differences[y, x] = (picture[y, x] - np.clip(predicted, 0, 255)) & 0xFF
    return differences


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (8, 13), (13, 8)])
def test_a_gradient_is_undone(height, width):
    picture = RNG.integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(undo_gradient(gradient_of(picture)), picture)


def test_the_gradient_filter_is_applied_to_a_rectangle():
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    body = bytes([EXPLICIT]) + GRADIENT + packed(gradient_of(picture).tobytes())
    assert np.array_equal(painted(7, 6, body), picture)


def test_each_of_four_streams_remembers_what_it_sent_before():
    streams = Streams()
    pictures = RNG.integers(0, 256, (8, 6, 7, 3), np.uint8)
    client = connected_client(7, 6)
    for turn, picture in enumerate(pictures):
        number = turn % 4
        body = bytes([number << 4]) + streams.pack(number, picture.tobytes())
        client.receive_data(update(rectangle(0, 0, 7, 6, Encoding.TIGHT, body)))
        assert np.array_equal(client.framebuffer[..., :3], picture)


def test_a_stream_begins_anew_where_its_reset_bit_is_set():
    first, second = RNG.integers(0, 256, (2, 6, 7, 3), np.uint8)
    bodies = [
        b"\x20" + Streams().pack(2, first.tobytes()),
        b"\x24" + Streams().pack(2, second.tobytes()),
    ]
    assert np.array_equal(painted(7, 6, *bodies), second)


def test_a_fill_resets_streams_too():
    first, second = RNG.integers(0, 256, (2, 6, 7, 3), np.uint8)
    bodies = [
        b"\x00" + Streams().pack(0, first.tobytes()),
        b"\x8f\x00\x00\x00",
        b"\x00" + Streams().pack(0, second.tobytes()),
    ]
    assert np.array_equal(painted(7, 6, *bodies), second)


def test_a_stream_that_begins_anew_unannounced_is_refused():
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8).tobytes()
    with pytest.raises(RemoteProtocolError, match=r"Tight stream 0: zlib says"):
        painted(7, 6, b"\x00" + packed(picture), b"\x00" + packed(picture))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"\xa0", "control byte 0xa0"),
        (b"\xf0", "control byte 0xf0"),
        (bytes([EXPLICIT, 3]), "filter 3"),
        (b"\x00" + packed(bytes(125)), "gave 125 of 126"),
        (b"\x00" + packed(bytes(127)), "more than 126"),
        (b"\x00" + packed(bytes(10_000_000)), "more than 126"),
        (b"\x00\x05hello", "zlib says"),
        (b"\x00\x00", "gave 0 of 126"),
        (bytes([EXPLICIT]) + palette(colours(3)) + packed(b"\x03" * 42), "colour 3 of a palette"),
        (b"\x90\x05hello", "JPEG"),
    ],
)
def test_a_body_against_the_rules_is_refused(body, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        painted(7, 6, body)


def test_a_stream_that_has_ended_is_refused():
    ended = zlib.compress(bytes(126))
    with pytest.raises(RemoteProtocolError, match="the stream ended"):
        painted(7, 6, b"\x00" + compact_length(len(ended)) + ended)
