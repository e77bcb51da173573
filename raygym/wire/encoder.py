"""From pictures to rectangles: what a server sends."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from raygym.config import VncOptions
from raygym.core import UInt8Array
from raygym.wire.encodings import RECTANGLE, U32, Encoding
from raygym.wire.pixel_format import PixelFormat
from raygym.wire.tight_decoder import MIN_COMPRESSED_BYTES
from raygym.wire.zrle_decoder import TILE_PX

MAX_TIGHT_WIDTH_PX = 2048
"""Tight allows no wider rectangles."""
MAX_TIGHT_PIXELS = 1 << 19
"""Keeps a Tight rectangle's data far below the 4 MB that its length field can say."""

_FAST = 1
_BASIC_STREAM_0 = 0x00
_JPEG = 0x90
_SUBSAMPLINGS = {None: "420", 0: "444", 1: "420", 2: "422", 3: "Gray"}
_RAW_TILE, _SOLID_TILE = b"\x00", b"\x01"


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels."""

    x: int
    """Left edge."""
    y: int
    """Top edge."""
    width: int
    """At least 1."""
    height: int
    """At least 1."""

    def of(self, pixels: UInt8Array) -> UInt8Array:
        """Returns this part of a picture, as a view."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


class Encoder:
    """Encodes rectangles for one client; holds the zlib streams of its connection."""

    def __init__(self) -> None:
        self._streams: dict[Encoding, zlib._Compress] = {}

    def rectangles(
        self, pixels: UInt8Array, box: Box, pixel_format: PixelFormat, options: VncOptions
    ) -> list[bytes]:
        """Encodes a part of a picture.

        Args:
            pixels: uint8[H, W, 3], the whole picture.
            box: Which part.
            pixel_format: What the client takes.
            options: What it asks for; Tight falls back to ZRLE where its pixels are not three
                bytes of 8 bits.

        Returns:
            One or more rectangles, each with its header.
        """
        if options.encoding == "raw":
            encoded = pixel_format.encode(box.of(pixels)).tobytes()
            return [_header(box, Encoding.RAW) + encoded]
        if options.encoding == "tight" and pixel_format.is_tight_rgb:
            return [self._tight(pixels, strip, options) for strip in tight_strips(box)]
        return [self._zrle(pixels, box, pixel_format, options)]

    def _deflate(self, encoding: Encoding, data: bytes, options: VncOptions) -> bytes:
        level = _FAST if options.compress_level is None else options.compress_level
        stream = self._streams.setdefault(encoding, zlib.compressobj(level))
        return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)

    def _tight(self, pixels: UInt8Array, box: Box, options: VncOptions) -> bytes:
        part = np.ascontiguousarray(box.of(pixels))
        header = _header(box, Encoding.TIGHT)
        if options.fine_quality_level is not None:
            jpeg = simplejpeg.encode_jpeg(
                part,
                quality=max(1, options.fine_quality_level),
                colorspace="RGB",
                colorsubsampling=_SUBSAMPLINGS[options.subsample_level],
                fastdct=True,
            )
            return header + bytes([_JPEG]) + compact_length(len(jpeg)) + bytes(jpeg)
        control = bytes([_BASIC_STREAM_0])
        plain = part.tobytes()
        if len(plain) < MIN_COMPRESSED_BYTES:
            return header + control + plain
        data = self._deflate(Encoding.TIGHT, plain, options)
        return header + control + compact_length(len(data)) + data

    def _zrle(
        self, pixels: UInt8Array, box: Box, pixel_format: PixelFormat, options: VncOptions
    ) -> bytes:
        compact = pixel_format.encode_compact(box.of(pixels))
        data = self._deflate(Encoding.ZRLE, b"".join(_zrle_tiles(compact)), options)
        return _header(box, Encoding.ZRLE) + U32.pack(len(data)) + data


def tight_strips(box: Box) -> Iterator[Box]:
    """Cuts a box into ones that Tight can hold, in columns and then in strips."""
    for x in range(box.x, box.x + box.width, MAX_TIGHT_WIDTH_PX):
        width = min(MAX_TIGHT_WIDTH_PX, box.x + box.width - x)
        rows = MAX_TIGHT_PIXELS // width
        for y in range(box.y, box.y + box.height, rows):
            yield Box(x, y, width, min(rows, box.y + box.height - y))


def compact_length(length: int) -> bytes:
    """Returns a Tight length, 0 to 2**22 - 1: one to three bytes, the low bits first."""
    if length < 1 << 7:
        return bytes([length])
    if length < 1 << 14:
        return bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])


def changed_box(old: UInt8Array, new: UInt8Array) -> Box | None:
    """Returns what bounds the difference of two pictures uint8[H, W, 3], or None if equal."""
    differs = _as_rows(old) != _as_rows(new)
    rows = np.flatnonzero(differs.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(differs[top:bottom].any(axis=0)) // 3
    left, right = int(columns[0]), int(columns[-1]) + 1
    return Box(left, top, right - left, bottom - top)


def _as_rows(pixels: UInt8Array) -> UInt8Array:
    """Returns uint8[H, W, 3] as uint8[H, W * 3]; a part of a larger picture without a copy."""
    height, width, _ = pixels.shape
    if pixels.strides[1:] != (3, 1):
        return pixels.reshape(height, width * 3)
    shape, strides = (height, width * 3), (pixels.strides[0], 1)
    return np.lib.stride_tricks.as_strided(pixels, shape, strides, writeable=False)


def common_box(one: Box, other: Box) -> Box | None:
    """Returns what both boxes hold, or None if that is nothing."""
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.width, other.x + other.width)
    bottom = min(one.y + one.height, other.y + other.height)
    return Box(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _header(box: Box, encoding: Encoding) -> bytes:
    return RECTANGLE.pack(box.x, box.y, box.width, box.height, encoding)


def _zrle_tiles(compact: UInt8Array) -> Iterator[bytes]:
    height, width, _ = compact.shape
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            tile = compact[y : y + TILE_PX, x : x + TILE_PX]
            if (tile == tile[0, 0]).all():
                yield _SOLID_TILE + tile[0, 0].tobytes()
            else:
                yield _RAW_TILE + tile.tobytes()
