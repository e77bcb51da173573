from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raygym.wire import pixel_metadata

TIMES_MS = st.integers(0, 2**48 - 1)


@given(TIMES_MS, TIMES_MS)
def test_what_was_painted_is_read(now_ms, probe_at_ms):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixel_metadata.paint(pixels, 3, 4, now_ms=now_ms, probe_at_ms=probe_at_ms)
    assert pixel_metadata.read(pixels, 3, 4) == (now_ms, probe_at_ms)


def test_the_anchor_and_the_times_stand_where_universe_s_clients_look():
    pixels = np.zeros((2, 6, 3), np.uint8)
    pixel_metadata.paint(pixels, 0, 0, now_ms=0x010203040506, probe_at_ms=0x0708090A0B0C)
    first, second = pixels.tolist()
    assert first[:2] == [[0x12, 0x34, 0x56], [0x78, 0x90, 0xAB]]
    assert second[:2] == [[0x23, 0x45, 0x67], [0x89, 0x0A, 0xBC]]
    assert first[2:] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]


def test_another_place_has_none():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixel_metadata.paint(pixels, 3, 4, now_ms=1, probe_at_ms=2)
    assert pixel_metadata.read(pixels, 4, 4) is None
    assert pixel_metadata.read(pixels, 14, 7) is None
