from __future__ import annotations

import struct

import numpy as np
import pytest

from raygym.errors import RemoteProtocolError
from raygym.wire.pixel_format import RGBX, PixelFormat

PICTURE = np.array([[[255, 128, 0], [1, 2, 3]]], np.uint8)
BGRX = PixelFormat(32, 24, False, True, 255, 255, 255, 16, 8, 0)
XRGB = PixelFormat(32, 24, True, True, 255, 255, 255, 16, 8, 0)
RGB565 = PixelFormat(16, 16, False, True, 31, 63, 31, 11, 5, 0)
BGR233 = PixelFormat(8, 8, False, True, 7, 7, 3, 0, 3, 6)


@pytest.mark.parametrize("pixel_format", [RGBX, BGRX, XRGB, RGB565, BGR233])
def test_a_format_survives_packing(pixel_format):
    assert PixelFormat.parse(pixel_format.pack()) == pixel_format
    assert len(pixel_format.pack()) == 16


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [
        (RGBX, [255, 128, 0]),
        (BGRX, [0, 128, 255]),
    ],
)
def test_bytes_of_a_pixel_stand_where_the_shifts_say(pixel_format, expected):
    assert pixel_format.encode(PICTURE)[0, 0, :3].tolist() == expected


def test_a_big_endian_pixel_has_its_low_byte_last():
    assert XRGB.encode(PICTURE)[0, 0].tolist() == [0, 255, 128, 0]


def test_sixteen_bits_hold_scaled_channels():
    values = RGB565.encode(PICTURE).tobytes()
    assert struct.unpack("<HH", values) == (31 << 11 | 32 << 5, 0)


def test_a_big_endian_pixel_of_sixteen_bits_is_swapped():
    swapped = PixelFormat(16, 16, True, True, 31, 63, 31, 11, 5, 0)
    assert struct.unpack(">HH", swapped.encode(PICTURE).tobytes()) == (31 << 11 | 32 << 5, 0)


def test_eight_bits_hold_scaled_channels():
    assert BGR233.encode(PICTURE).tobytes() == bytes([7 | 4 << 3, 0])


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [(RGBX, [255, 128, 0]), (BGRX, [0, 128, 255]), (XRGB, [255, 128, 0])],
)
def test_compact_pixels_leave_out_the_unused_byte(pixel_format, expected):
    assert pixel_format.encode_compact(PICTURE)[0, 0].tolist() == expected


def test_compact_pixels_of_sixteen_bits_are_whole():
    assert RGB565.encode_compact(PICTURE).shape == (1, 2, 2)


def test_a_depth_of_32_has_no_compact_form():
    deep = PixelFormat(32, 32, False, True, 255, 255, 255, 0, 8, 16)
    assert deep.encode_compact(PICTURE).shape == (1, 2, 4)
    assert not deep.is_tight_rgb


def test_odd_shifts_are_no_bytes():
    ten_bit = PixelFormat(32, 30, False, True, 1023, 1023, 1023, 20, 10, 0)
    assert not ten_bit.has_byte_channels
    (value,) = struct.unpack("<I", ten_bit.encode(PICTURE)[0, 0].tobytes())
    assert value == 1023 << 20 | 514 << 10


@pytest.mark.parametrize(
    "broken",
    [
        PixelFormat(24, 24, False, True, 255, 255, 255, 0, 8, 16),
        PixelFormat(8, 8, False, False, 0, 0, 0, 0, 0, 0),
        PixelFormat(16, 16, False, True, 31, 63, 31, 16, 5, 0),
        PixelFormat(8, 8, False, True, 7, 7, 7, 0, 3, 6),
        PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 200),
    ],
)
def test_a_format_that_nobody_can_paint_is_refused(broken):
    with pytest.raises(RemoteProtocolError, match="expected true colour of 8, 16 or 32"):
        PixelFormat.parse(broken.pack())
