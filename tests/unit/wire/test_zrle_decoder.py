from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from raygym.errors import RemoteProtocolError
from raygym.wire.encodings import Encoding
from tests.support.rfb import connected_client, rectangle, update

RNG = np.random.default_rng(0)


def zrle(plain: bytes) -> bytes:
    stream = zlib.compressobj()
    data = stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack(">I", len(data)) + data


def painted(width: int, height: int, tiles: bytes) -> np.ndarray:
    """Sends a whole screen; returns it, uint8[H, W, 3]."""
    client = connected_client(width, height)
    client.receive_data(update(rectangle(0, 0, width, height, Encoding.ZRLE, zrle(tiles))))
    return client.framebuffer[..., :3]


def colours(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 3), np.uint8)


def run(length: int) -> bytes:
    """A run length as bytes that add up to it less one."""
    return b"\xff" * ((length - 1) // 255) + bytes([(length - 1) % 255])


def test_a_raw_tile_holds_every_pixel():
    picture = RNG.integers(0, 256, (5, 9, 3), np.uint8)
    assert np.array_equal(painted(9, 5, b"\x00" + picture.tobytes()), picture)


def test_a_solid_tile_holds_one_pixel():
    assert (painted(9, 5, b"\x01\x09\x08\x07") == [9, 8, 7]).all()


@pytest.mark.parametrize(("count", "bits"), [(2, 1), (3, 2), (4, 2), (5, 4), (16, 4)])
@pytest.mark.parametrize("width", [1, 5, 8, 64])
def test_a_packed_palette_has_rows_of_whole_bytes(count, bits, width):
    chosen = colours(count)
    indices = RNG.integers(0, count, (7, width), np.uint8)
    as_bits = np.unpackbits(indices[..., None], axis=2)[..., 8 - bits :].reshape(7, -1)
    tile = bytes([count]) + chosen.tobytes() + np.packbits(as_bits, axis=1).tobytes()
    assert np.array_equal(painted(width, 7, tile), chosen[indices])


def test_plain_runs_go_on_over_rows():
    lengths = [1, 255, 256, 257, 511, 1, 319]
    chosen = colours(len(lengths))
    tile = b"\x80" + b"".join(c.tobytes() + run(n) for c, n in zip(chosen, lengths, strict=True))
    expected = np.repeat(chosen, lengths, axis=0).reshape(25, 64, 3)
    assert np.array_equal(painted(64, 25, tile), expected)


def test_palette_runs_have_a_short_form_for_one_pixel():
    chosen = colours(3)
    tile = bytes([128 + 3]) + chosen.tobytes()
    tile += bytes([0, 1, 2, 0x80 | 1]) + run(300) + bytes([2, 0x80]) + run(16)
    expected = np.repeat(chosen[[0, 1, 2, 1, 2, 0]], [1, 1, 1, 300, 1, 16], axis=0)
    assert np.array_equal(painted(64, 5, tile), expected.reshape(5, 64, 3))


def test_tiles_follow_each_other_in_rows_and_are_cut_at_the_edges():
    picture = RNG.integers(0, 256, (70, 130, 3), np.uint8)
    tiles = b"".join(
        b"\x00" + picture[y : y + 64, x : x + 64].tobytes()
        for y in range(0, 70, 64)
        for x in range(0, 130, 64)
    )
    assert np.array_equal(painted(130, 70, tiles), picture)


def test_the_stream_goes_on_from_one_rectangle_to_the_next():
    stream = zlib.compressobj()
    client = connected_client(8, 8)
    for picture in RNG.integers(0, 256, (3, 8, 8, 3), np.uint8):
        plain = b"\x00" + picture.tobytes()
        data = stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">I", len(data)) + data
        client.receive_data(update(rectangle(0, 0, 8, 8, Encoding.ZRLE, body)))
        assert np.array_equal(client.framebuffer[..., :3], picture)


@pytest.mark.parametrize(
    ("tile", "complaint"),
    [
        (b"", "cut short"),
        (b"\x00" + bytes(74), "cut short"),
        (b"\x01\x00", "cut short"),
        (b"\x02" + bytes(6), "cut short"),
        (b"\x03" + bytes(9) + b"\xff" * 10, "colour 3 of a palette of 3"),
        (b"\x11", "tile kind 17"),
        (b"\x7f", "tile kind 127"),
        (b"\x81", "tile kind 129"),
        (b"\x80", "cut short"),
        (b"\x80" + bytes(3) + b"\xff" * 5, "cut short"),
        (b"\x80" + bytes(3) + run(26), "1 pixels more"),
        (b"\x82" + bytes(6) + b"\x02" * 25, "colour 2 of a palette of 2"),
        (b"\x82" + bytes(6) + b"\x80" + run(2000), "1975 pixels more"),
        (b"\x82" + bytes(6) + b"\x80", "cut short"),
        (b"\x01" + bytes(4), "1 bytes follow"),
        (bytes(1_000_000), "more than"),
    ],
)
def test_a_tile_against_the_rules_is_refused(tile, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        painted(5, 5, tile)


def test_a_length_that_no_rectangle_needs_is_refused_before_its_data():
    client = connected_client(5, 5)
    with pytest.raises(RemoteProtocolError, match="4294967295 bytes for a rectangle of 5x5"):
        client.receive_data(update(rectangle(0, 0, 5, 5, Encoding.ZRLE, b"\xff" * 4)))
