"""Universe's pixel metadata: the time, and when a probe arrived, as twelve pixels.

A block of 6 by 2 pixels that its clients search for on the whole screen, so it must be sent
without loss. As bytes R, G and B of one pixel after the other:

=====  ================  ======================  ================================
row    columns 0 and 1   columns 2 and 3         columns 4 and 5
=====  ================  ======================  ================================
0      1234567890ab      when it was painted     when a probe last arrived
1      234567890abc      as above                as above
=====  ================  ======================  ================================

Times are unix time in milliseconds, six bytes, the most significant first.
"""

from __future__ import annotations

import numpy as np

from raygym.core import UInt8Array

PROBE_KEYSYM = 0xBEEF1
"""The key that Universe's clients press on gym-core to measure the action lag."""
WIDTH_PX = 6
HEIGHT_PX = 2
_ANCHORS = (bytes.fromhex("1234567890ab"), bytes.fromhex("234567890abc"))
_TIME_BYTES = 6


def paint(pixels: UInt8Array, x: int, y: int, *, now_ms: int, probe_at_ms: int) -> None:
    """Paints a block with its top left corner at (x, y) of uint8[H, W, 3]."""
    times = now_ms.to_bytes(_TIME_BYTES, "big") + probe_at_ms.to_bytes(_TIME_BYTES, "big")
    for row, anchor in enumerate(_ANCHORS):
        data = np.frombuffer(anchor + times, np.uint8)
        pixels[y + row, x : x + WIDTH_PX] = data.reshape(WIDTH_PX, 3)


def read(pixels: UInt8Array, x: int, y: int) -> tuple[int, int] | None:
    """Reads the block at (x, y): painted at, probe at; None if there is none."""
    rows = [row.tobytes() for row in pixels[y : y + HEIGHT_PX, x : x + WIDTH_PX]]
    if tuple(row[:_TIME_BYTES] for row in rows) != _ANCHORS:
        return None
    data = rows[0]
    return (
        int.from_bytes(data[_TIME_BYTES : 2 * _TIME_BYTES], "big"),
        int.from_bytes(data[2 * _TIME_BYTES :], "big"),
    )
