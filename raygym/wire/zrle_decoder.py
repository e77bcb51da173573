"""Decodes ZRLE rectangles (RFC 6143 7.7.6)."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.encodings import U32
from raygym.wire.framebuffer import Framebuffer, Words, palette_words
from raygym.wire.inflate import InflateStream
from raygym.wire.receive_buffer import ReceiveBuffer

TILE_PX = 64
"""Tiles are squares of this side, smaller at the right and bottom edges."""
_CPIXEL_BYTES = 3
_MAX_TILE_HEADER_BYTES = 1 + 127 * _CPIXEL_BYTES
_PLAIN_RLE = 128
_FIRST_PALETTE_RLE = 130


def _unpacked(bits: int) -> UInt8Array:
    """Returns the numbers of so many bits that each byte holds, uint8[256, 8 / bits]."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return np.arange(256, dtype=np.uint8)[:, None] >> shifts & np.uint8((1 << bits) - 1)


_UNPACKED = {bits: _unpacked(bits) for bits in (1, 2, 4)}


def _refused(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"RFB ZRLE: {reason}; the stream is damaged")


class ZrleDecoder:
    """The zlib stream of a connection, and the tiles in it."""

    def __init__(self) -> None:
        self._stream = InflateStream("ZRLE stream")

    def rectangle(
        self,
        buffer: ReceiveBuffer,
        framebuffer: Framebuffer,
        x: int,
        y: int,
        width: int,
        height: int,
    ) -> Generator[int, None, None]:
        """Decodes one rectangle; yields how many bytes it waits for.

        Raises:
            RemoteProtocolError: The data breaks the encoding's rules.
        """
        if buffer.available < U32.size:
            yield U32.size
        (length,) = buffer.unpack(U32)
        tiles = -(-width // TILE_PX) * -(-height // TILE_PX)
        # A run of one pixel is the longest way to write it: its colour and a length byte.
        limit = tiles * _MAX_TILE_HEADER_BYTES + width * height * (_CPIXEL_BYTES + 1)
        # zlib adds at most 5 bytes to each stored block of 16 kB, and a few at the ends.
        if length > limit + limit // 1000 + 1024:
            raise _refused(f"{length} bytes for a rectangle of {width}x{height}")
        if buffer.available < length:
            yield length
        tile_data = _TileData(self._stream.inflate_up_to(buffer.take(length), limit))
        for top in range(y, y + height, TILE_PX):
            tile_height = min(TILE_PX, y + height - top)
            for left in range(x, x + width, TILE_PX):
                tile_width = min(TILE_PX, x + width - left)
                _tile(tile_data, framebuffer, left, top, tile_width, tile_height)
        tile_data.check_end()


class _TileData:
    """Inflated tiles and how far they were read."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.position = 0
        self._bytes: UInt8Array = np.frombuffer(plain, np.uint8)

    def byte(self) -> int:
        if self.position >= len(self.plain):
            raise _refused("a tile is cut short")
        self.position += 1
        return self.plain[self.position - 1]

    def array(self, count: int) -> UInt8Array:
        end = self.position + count
        if end > len(self.plain):
            raise _refused("a tile is cut short")
        taken = self._bytes[self.position : end]
        self.position = end
        return taken

    def palette(self, count: int) -> Words:
        begin = self.position
        self.position = end = begin + count * _CPIXEL_BYTES
        if end > len(self.plain):
            raise _refused("a tile is cut short")
        return palette_words(self.plain[begin:end])

    def check_end(self) -> None:
        if self.position != len(self.plain):
            raise _refused(f"{len(self.plain) - self.position} bytes follow the last tile")


def _tile(
    data: _TileData, framebuffer: Framebuffer, x: int, y: int, width: int, height: int
) -> None:
    target = framebuffer.words[y : y + height, x : x + width]
    kind = data.byte()
    if kind == 0:
        rgb = data.array(height * width * _CPIXEL_BYTES)
        framebuffer.paint_rgb(x, y, rgb.reshape(height, width, _CPIXEL_BYTES))
    elif kind == 1:
        target[:] = data.palette(1)[0]
    elif kind <= 16:
        _packed_palette(data, target, kind)
    elif kind == _PLAIN_RLE:
        _plain_runs(data, target)
    elif kind >= _FIRST_PALETTE_RLE:
        _palette_runs(data, target, kind - _PLAIN_RLE)
    else:
        raise _refused(f"tile kind {kind} is not known")


def _packed_palette(data: _TileData, target: Words, count: int) -> None:
    height, width = target.shape
    palette = data.palette(count)
    bits = 1 if count == 2 else 2 if count <= 4 else 4
    row_bytes = (width * bits + 7) // 8
    packed = data.array(row_bytes * height).reshape(height, row_bytes)
    indices = _UNPACKED[bits].take(packed, axis=0).reshape(height, -1)[:, :width]
    try:
        target[:] = palette.take(indices)
    except IndexError:
        raise _refused(f"colour {indices.max()} of a palette of {count}") from None


def _run_length(plain: bytes, position: int) -> tuple[int, int]:
    """Reads a run's length: bytes of 255 and a last one, plus 1. Returns it and where it ends."""
    length = 1
    while plain[position] == 255:
        length += 255
        position += 1
    return length + plain[position], position + 1


def _plain_runs(data: _TileData, target: Words) -> None:
    plain, position = data.plain, data.position
    left = target.size
    colours: list[int] = []
    lengths: list[int] = []
    try:
        while left > 0:
            colour = plain[position] | plain[position + 1] << 8 | plain[position + 2] << 16
            colours.append(colour)
            length, position = _run_length(plain, position + 3)
            lengths.append(length)
            left -= length
    except IndexError:
        raise _refused("a run is cut short") from None
    _paint_runs(target, np.array(colours, np.uint32), lengths, left)
    data.position = position


def _palette_runs(data: _TileData, target: Words, count: int) -> None:
    palette = data.palette(count)
    plain, position = data.plain, data.position
    left = target.size
    indices: list[int] = []
    lengths: list[int] = []
    try:
        while left > 0:
            index = plain[position]
            position += 1
            length = 1
            if index & 0x80:
                length, position = _run_length(plain, position)
            indices.append(index & 0x7F)
            lengths.append(length)
            left -= length
    except IndexError:
        raise _refused("a run is cut short") from None
    if max(indices) >= count:
        raise _refused(f"colour {max(indices)} of a palette of {count}")
    _paint_runs(target, palette[indices], lengths, left)
    data.position = position


def _paint_runs(target: Words, colours: Words, lengths: list[int], left: int) -> None:
    if left < 0:
        raise _refused(f"runs cover {-left} pixels more than their tile")
    target[:] = np.repeat(colours, lengths).reshape(target.shape)
