"""The picture that a decoder paints on."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.encodings import MAX_HEIGHT_PX, MAX_WIDTH_PX

Words = npt.NDArray[np.uint32]


class Framebuffer:
    """A screen of R, G, B and an unused byte, seen through three views of one memory.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        RemoteProtocolError: The size is 0 or over 5120x2880; nothing was allocated.
    """

    __slots__ = ("height", "pixels", "rows", "width", "words")

    def __init__(self, width: int, height: int) -> None:
        if not (0 < width <= MAX_WIDTH_PX and 0 < height <= MAX_HEIGHT_PX):
            raise RemoteProtocolError(
                f"RFB desktop: expected 1x1 to {MAX_WIDTH_PX}x{MAX_HEIGHT_PX} pixels, the server "
                f"says {width}x{height}"
            )
        self.width = width
        self.height = height
        self.pixels: UInt8Array = np.zeros((height, width, 4), np.uint8)
        """uint8[H, W, 4]."""
        self.words: Words = self.pixels.view("<u4")[..., 0]
        """uint32[H, W], R in the low byte."""
        self.rows: UInt8Array = self.pixels.reshape(height, width * 4)
        """uint8[H, 4 W]."""

    def paint_rgb(self, x: int, y: int, rgb: UInt8Array) -> None:
        """Paints uint8[h, w, 3] with its top left corner at x, y."""
        height, width = rgb.shape[:2]
        if height and width:
            cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA, dst=self.pixels[y : y + height, x : x + width])


def palette_words(colours: bytes | memoryview) -> Words:
    """Turns colours of three bytes into uint32[N] as the framebuffer holds them."""
    padded = bytearray(len(colours) // 3 * 4)
    padded[0::4] = colours[0::3]
    padded[1::4] = colours[1::3]
    padded[2::4] = colours[2::3]
    return np.frombuffer(padded, "<u4")
