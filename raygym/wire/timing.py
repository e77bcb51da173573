"""The timing strip: when a picture was painted, and when an input last arrived.

A strip of black and white cells on the screen, outside the observation. It travels with the
picture itself, so it says how old exactly this picture is, and it survives JPEG. Most
significant bit first, one bit a cell:

========  ==========================================================================
bits      meaning
========  ==========================================================================
8         anchor, 0b10110010
32        when it was painted, unix time in milliseconds, modulo 2**32
32        when the far end last saw an input event, likewise; starts at its own start
8         how many input events it saw, modulo 256
8         CRC-8 (polynomial 0x07, start 0) over the nine bytes between
========  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygym.core import UInt8Array

CELL_WIDTH_PX = 4
CELL_HEIGHT_PX = 8
ANCHOR = 0b10110010
CELLS = 88
WIDTH_PX = CELLS * CELL_WIDTH_PX
HEIGHT_PX = CELL_HEIGHT_PX
_THRESHOLD = 128
_WRAP_MS = 1 << 32


@dataclass(frozen=True)
class TimingMark:
    """What a strip says."""

    painted_at_ms: int
    """Unix time in milliseconds, modulo 2**32."""
    input_at_ms: int
    """Unix time in milliseconds, modulo 2**32."""
    input_count: int
    """0 to 255."""


def stamp_ms(unix_s: float) -> int:
    """Returns a unix time in seconds as a strip has it."""
    return int(unix_s * 1000) % _WRAP_MS


def age_ms(now_unix_s: float, at_ms: int) -> float:
    """Returns how long before ``now_unix_s`` a stamp lies, in ms; negative if after it.

    Right within 24 days either way.
    """
    age = (now_unix_s * 1000 - at_ms) % _WRAP_MS
    return age - _WRAP_MS if age >= _WRAP_MS / 2 else age


def paint(pixels: UInt8Array, x: int, y: int, mark: TimingMark) -> None:
    """Paints a strip with its top left corner at (x, y) of uint8[H, W, 3]."""
    payload = (
        mark.painted_at_ms.to_bytes(4, "big")
        + mark.input_at_ms.to_bytes(4, "big")
        + bytes([mark.input_count])
    )
    data = np.frombuffer(bytes([ANCHOR]) + payload + bytes([crc8(payload)]), np.uint8)
    row = np.repeat(np.unpackbits(data) * np.uint8(255), CELL_WIDTH_PX)
    pixels[y : y + HEIGHT_PX, x : x + WIDTH_PX] = row[None, :, None]


def read(pixels: UInt8Array, x: int, y: int) -> TimingMark | None:
    """Reads the strip at (x, y) of uint8[H, W, 3]; None if there is none, or it is damaged."""
    row = pixels[y + HEIGHT_PX // 2, x + CELL_WIDTH_PX // 2 : x + WIDTH_PX : CELL_WIDTH_PX]
    if len(row) != CELLS:
        return None
    bits = row.mean(axis=-1) >= _THRESHOLD
    data = np.packbits(bits).tobytes()
    payload = data[1:10]
    if data[0] != ANCHOR or data[10] != crc8(payload):
        return None
    return TimingMark(
        painted_at_ms=int.from_bytes(payload[:4], "big"),
        input_at_ms=int.from_bytes(payload[4:8], "big"),
        input_count=payload[8],
    )


def crc8(data: bytes) -> int:
    """Returns the CRC-8 of polynomial 0x07 and start 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 255 if crc & 128 else crc << 1
    return crc
