from __future__ import annotations

import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.wire.encoder import (
    MAX_TIGHT_PIXELS,
    MAX_TIGHT_WIDTH_PX,
    Box,
    Encoder,
    changed_box,
    common_box,
    compact_length,
    tight_strips,
)
from raygym.wire.encodings import RECTANGLE, Encoding
from raygym.wire.pixel_format import RGBX, PixelFormat

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 50, 3), np.uint8)
SIXTEEN_BITS = PixelFormat(16, 16, False, True, 31, 63, 31, 11, 5, 0)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (10_000, "904e"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        ((1 << 22) - 1, "ffffff"),
    ],
)
def test_a_length_takes_one_to_three_bytes(length, expected):
    assert compact_length(length).hex() == expected


@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 1, 1),
        Box(3, 4, 1024, 768),
        Box(0, 0, 5120, 2880),
        Box(1, 2, 2049, 3),
        Box(0, 7, 2048, 257),
    ],
)
def test_strips_cover_a_box_once_within_the_limits_of_tight(box):
    covered = np.zeros((2900, 5200), np.uint8)
    for strip in tight_strips(box):
        assert strip.width <= MAX_TIGHT_WIDTH_PX
        assert 0 < strip.width * strip.height <= MAX_TIGHT_PIXELS
        covered[strip.y : strip.y + strip.height, strip.x : strip.x + strip.width] += 1
    assert (covered[box.y : box.y + box.height, box.x : box.x + box.width] == 1).all()
    assert covered.sum() == box.width * box.height


def test_the_worst_strip_fits_a_length_of_22_bits():
    noise = RNG.integers(0, 256, (256, 2048, 3), np.uint8)
    assert noise.shape[0] * noise.shape[1] == MAX_TIGHT_PIXELS
    for quality in (None, 100):
        options = VncOptions(fine_quality_level=quality, subsample_level=0)
        (encoded,) = Encoder().rectangles(noise, Box(0, 0, 2048, 256), RGBX, options)
        assert len(encoded) < 1 << 22


@pytest.mark.parametrize(
    ("options", "pixel_format", "expected"),
    [
        (VncOptions(encoding="raw"), RGBX, Encoding.RAW),
        (VncOptions(encoding="zrle"), RGBX, Encoding.ZRLE),
        (VncOptions(), RGBX, Encoding.TIGHT),
        (VncOptions(), SIXTEEN_BITS, Encoding.ZRLE),
    ],
)
def test_the_encoding_follows_the_options_where_the_pixel_format_allows(
    options, pixel_format, expected
):
    (encoded,) = Encoder().rectangles(PICTURE, Box(5, 6, 7, 8), pixel_format, options)
    assert RECTANGLE.unpack_from(encoded) == (5, 6, 7, 8, expected)


def test_compression_effort_is_obeyed():
    picture = np.tile(PICTURE[:4], (10, 1, 1))
    sizes = [
        len(Encoder().rectangles(picture, Box(0, 0, 50, 40), RGBX, options)[0])
        for options in (
            VncOptions(encoding="zrle", compress_level=0),
            VncOptions(encoding="zrle", compress_level=9),
        )
    ]
    assert sizes[0] > 6000 > sizes[1]


@pytest.mark.parametrize(
    "box", [Box(0, 0, 1, 1), Box(49, 39, 1, 1), Box(10, 5, 30, 20), Box(0, 0, 50, 40)]
)
def test_a_change_is_bounded_exactly(box):
    changed = PICTURE.copy()
    box.of(changed)[0, 0] += 1
    box.of(changed)[-1, -1] += 1
    assert changed_box(PICTURE, changed) == box


@pytest.mark.parametrize("part", [Box(0, 0, 50, 40), Box(7, 3, 20, 30), Box(49, 39, 1, 1)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_change_within_a_part_of_a_larger_picture_is_found(part, channel):
    changed = PICTURE.copy()
    x, y = part.width // 2, part.height // 2
    part.of(changed)[y, x, channel] += 1
    assert changed_box(part.of(PICTURE), part.of(changed)) == Box(x, y, 1, 1)
    if part.x:
        changed[0, 0] += 1  # outside of the part
        assert changed_box(part.of(PICTURE), part.of(changed)) == Box(x, y, 1, 1)


def test_pictures_that_lie_otherwise_in_memory_are_compared_too():
    changed = np.asfortranarray(PICTURE)
    changed[5, 6, 1] += 1
    assert changed_box(PICTURE, changed) == Box(6, 5, 1, 1)
    assert changed_box(PICTURE[:, ::-1], changed[:, ::-1]) == Box(50 - 1 - 6, 5, 1, 1)


def test_equal_pictures_have_no_change():
    assert changed_box(PICTURE, PICTURE.copy()) is None


@pytest.mark.parametrize(
    ("other", "common"),
    [
        (Box(0, 0, 100, 100), Box(10, 20, 30, 5)),
        (Box(15, 18, 5, 4), Box(15, 20, 5, 2)),
        (Box(39, 24, 9, 9), Box(39, 24, 1, 1)),
        (Box(40, 20, 5, 5), None),
        (Box(10, 25, 5, 5), None),
    ],
)
def test_what_two_boxes_have_in_common(other, common):
    assert common_box(Box(10, 20, 30, 5), other) == common
    assert common_box(other, Box(10, 20, 30, 5)) == common
