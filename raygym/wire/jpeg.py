"""JPEG pictures inside Tight rectangles."""

from __future__ import annotations

import numpy as np
import simplejpeg

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.framebuffer import Framebuffer

_FRAME = frozenset({0xC0, 0xC1})
"""Markers of a sequential picture's header."""
_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Markers of what may stand before it: tables, comments, application data."""


def _refused(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"RFB Tight JPEG: {reason}; the stream is damaged")


def check_header(data: memoryview, width: int, height: int) -> None:
    """Raises RemoteProtocolError unless this is a sequential JPEG of that size.

    A progressive one could hold thousands of passes over the picture in a few kilobytes.
    """
    if bytes(data[:2]) != b"\xff\xd8":
        raise _refused(f"begins with {bytes(data[:2])!r}")
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME:
            seen_height = data[position + 5] << 8 | data[position + 6]
            seen_width = data[position + 7] << 8 | data[position + 8]
            if (seen_width, seen_height) != (width, height):
                raise _refused(
                    f"a rectangle of {width}x{height} holds a picture of {seen_width}x{seen_height}"
                )
            return
        if marker not in _TABLES:
            break
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    raise _refused("no header of a sequential picture was found")


def paint_jpeg(
    framebuffer: Framebuffer, x: int, y: int, width: int, height: int, data: memoryview
) -> None:
    """Decodes a picture to its place.

    Raises:
        RemoteProtocolError: It is damaged, or has another size.
    """
    check_header(data, width, height)
    target = framebuffer.pixels[y : y + height, x : x + width]
    # A buffer of the right size keeps a lying header from choosing how much is allocated.
    is_direct = target.flags.c_contiguous
    buffer: UInt8Array = target if is_direct else np.empty(target.shape, np.uint8)
    try:
        simplejpeg.decode_jpeg(data, "RGBX", fastdct=True, fastupsample=True, buffer=buffer)
    except ValueError as error:
        raise _refused(str(error)) from error
    if not is_direct:
        target[:] = buffer
