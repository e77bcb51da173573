from __future__ import annotations

import cv2
import numpy as np
import pytest

from raygym.wire import timing
from raygym.wire.timing import TimingMark

MARK = TimingMark(painted_at_ms=0xDEADBEEF, input_at_ms=0x12345678, input_count=200)


def _screen() -> np.ndarray:
    pixels = np.full((40, 400, 3), 90, np.uint8)
    timing.paint(pixels, 5, 7, MARK)
    return pixels


def test_a_painted_strip_is_read_back():
    assert timing.read(_screen(), 5, 7) == MARK


def test_a_strip_paints_nothing_beyond_its_size():
    pixels = _screen()
    pixels[7 : 7 + timing.HEIGHT_PX, 5 : 5 + timing.WIDTH_PX] = 90
    assert (pixels == 90).all()


def test_a_strip_is_read_from_a_strided_view_of_rgbx():
    rgbx = np.zeros((40, 400, 4), np.uint8)
    rgbx[:, :, :3] = _screen()
    assert timing.read(rgbx[:, :, :3], 5, 7) == MARK


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_a_strip_survives_jpeg(quality):
    _, data = cv2.imencode(".jpg", _screen(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert timing.read(cv2.imdecode(data, cv2.IMREAD_COLOR), 5, 7) == MARK


def test_a_damaged_cell_makes_it_unreadable():
    for cell in range(timing.CELLS):
        pixels = _screen()
        x = 5 + cell * timing.CELL_WIDTH_PX
        pixels[7 : 7 + timing.HEIGHT_PX, x : x + timing.CELL_WIDTH_PX] ^= 255
        assert timing.read(pixels, 5, 7) is None, f"cell {cell}"


def test_where_no_strip_is_none_is_read():
    assert timing.read(np.zeros((40, 400, 3), np.uint8), 5, 7) is None
    assert timing.read(_screen(), 100, 7) is None


def test_a_strip_that_does_not_fit_on_the_screen_is_none():
    assert timing.read(np.zeros((40, 100, 3), np.uint8), 5, 7) is None


@pytest.mark.parametrize("age", [-5000, -1, 0, 1, 17, 3_600_000])
def test_ages_are_right_across_the_wrap_of_the_stamp(age):
    for now_ms in (2**32 * 417 - 2000, 2**32 * 417 + 2000, 1_795_000_000_000):
        stamp = timing.stamp_ms((now_ms - age) / 1000)
        assert timing.age_ms(now_ms / 1000, stamp) == pytest.approx(age, abs=1.5)


def test_the_checksum_is_the_known_one():
    assert timing.crc8(b"123456789") == 0xF4
