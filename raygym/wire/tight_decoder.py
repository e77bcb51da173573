"""Decodes Tight rectangles (RFB community specification, Tight encoding)."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.framebuffer import Framebuffer, Words, palette_words
from raygym.wire.inflate import InflateStream
from raygym.wire.jpeg import paint_jpeg
from raygym.wire.receive_buffer import ReceiveBuffer

MIN_COMPRESSED_BYTES = 12
"""Shorter data is sent as it is, without a length."""

_FILL, _JPEG = 8, 9
_COPY, _PALETTE, _GRADIENT = 0, 1, 2
_EXPLICIT_FILTER = 4
# From about this size on, a table of eight pixels for each byte pays.
_MANY_BYTES = 1024
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)


class TightDecoder:
    """The four zlib streams of a connection, and what is done with them."""

    def __init__(self) -> None:
        self._streams = [InflateStream(f"Tight stream {number}") for number in range(4)]

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
        if buffer.available < 1:
            yield 1
        control = buffer.take_byte()
        for number in range(4):
            if control >> number & 1:
                self._streams[number].reset()
        kind = control >> 4
        if kind == _FILL:
            if buffer.available < 3:
                yield 3
            red, green, blue = buffer.take(3)
            framebuffer.words[y : y + height, x : x + width] = red | green << 8 | blue << 16
        elif kind == _JPEG:
            length = yield from _compact_length(buffer)
            if buffer.available < length:
                yield length
            paint_jpeg(framebuffer, x, y, width, height, buffer.take(length))
        elif kind > _JPEG:
            raise RemoteProtocolError(f"RFB Tight: control byte {control:#04x} is not known")
        else:
            yield from self._basic(buffer, framebuffer, x, y, width, height, kind)

    def _basic(
        self,
        buffer: ReceiveBuffer,
        framebuffer: Framebuffer,
        x: int,
        y: int,
        width: int,
        height: int,
        kind: int,
    ) -> Generator[int, None, None]:
        filter_id = _COPY
        if kind & _EXPLICIT_FILTER:
            if buffer.available < 1:
                yield 1
            filter_id = buffer.take_byte()
        colours = b""
        row_bytes = width * 3
        if filter_id == _PALETTE:
            if buffer.available < 1:
                yield 1
            count = buffer.take_byte() + 1
            if buffer.available < count * 3:
                yield count * 3
            colours = bytes(buffer.take(count * 3))
            row_bytes = (width + 7) // 8 if count <= 2 else width
        elif filter_id not in (_COPY, _GRADIENT):
            raise RemoteProtocolError(f"RFB Tight: filter {filter_id} is not known")
        size = row_bytes * height
        is_compressed = size >= MIN_COMPRESSED_BYTES
        length = size
        if is_compressed:
            length = yield from _compact_length(buffer)
        if buffer.available < length:
            yield length
        data = buffer.take(length)
        plain = self._streams[kind & 3].inflate(data, size) if is_compressed else bytes(data)
        if plain:
            _paint(framebuffer, x, y, width, height, filter_id, colours, plain)


def _compact_length(buffer: ReceiveBuffer) -> Generator[int, None, int]:
    """Reads a length of 7, 14 or 22 bits: one to three bytes, the low bits first."""
    length = 0
    for shift in (0, 7, 14):
        if buffer.available < 1:
            yield 1
        byte = buffer.take_byte()
        length |= (byte if shift == 14 else byte & 0x7F) << shift
        if byte < 0x80:
            break
    return length


def _paint(
    framebuffer: Framebuffer,
    x: int,
    y: int,
    width: int,
    height: int,
    filter_id: int,
    colours: bytes,
    plain: bytes,
) -> None:
    values = np.frombuffer(plain, np.uint8)
    if filter_id == _COPY:
        framebuffer.paint_rgb(x, y, values.reshape(height, width, 3))
        return
    if filter_id == _GRADIENT:
        framebuffer.paint_rgb(x, y, undo_gradient(values.reshape(height, width, 3)))
        return
    palette = palette_words(colours)
    target = framebuffer.words[y : y + height, x : x + width]
    if len(palette) <= 2:
        target[:] = _two_colours(palette, values.reshape(height, -1))[:, :width]
        return
    try:
        target[:] = palette.take(values).reshape(height, width)
    except IndexError:
        raise RemoteProtocolError(
            f"RFB Tight: colour {values.max()} of a palette of {len(palette)}; the stream is "
            "damaged"
        ) from None


def _two_colours(palette: Words, packed: UInt8Array) -> Words:
    """Expands bits uint8[H, N] to pixels uint32[H, 8 N]; a lone colour is both."""
    if packed.size < _MANY_BYTES:
        return palette.take(np.unpackbits(packed, axis=1), mode="clip")
    eight_pixels = palette.take(_BITS, mode="clip")
    return eight_pixels.take(packed, axis=0).reshape(len(packed), -1)


def undo_gradient(differences: UInt8Array) -> UInt8Array:
    """Adds each pixel's prediction, left + above - above left, to its difference.

    A pixel needs its neighbours decoded, so a whole anti-diagonal is done at a time.

    Args:
        differences: uint8[H, W, 3].

    Returns:
        uint8[H, W, 3].
    """
    height, width, _ = differences.shape
    padded = np.zeros((height + 1, width + 1, 3), np.int16)
    for diagonal in range(height + width - 1):
        top = max(0, diagonal - width + 1)
        rows = np.arange(top, min(height, diagonal + 1))
        columns = diagonal - rows
        predicted = padded[rows + 1, columns] + padded[rows, columns + 1] - padded[rows, columns]
        np.clip(predicted, 0, 255, out=predicted)
        padded[rows + 1, columns + 1] = (predicted + differences[rows, columns]) & 0xFF
    return padded[1:, 1:].astype(np.uint8)
