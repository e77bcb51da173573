"""From a server's bytes to a picture: everything after the handshake."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.encodings import (
    MAX_TEXT_BYTES,
    POINT,
    RECTANGLE,
    U16,
    U32,
    Encoding,
    ServerMessage,
)
from raygym.wire.framebuffer import Framebuffer
from raygym.wire.receive_buffer import ReceiveBuffer
from raygym.wire.rfb_events import (
    Bell,
    CutText,
    DesktopResized,
    RfbEvent,
    ScreenUpdated,
    UpdateBegun,
)
from raygym.wire.tight_decoder import TightDecoder
from raygym.wire.zrle_decoder import ZrleDecoder

_MAX_REPAINTS = 16
"""An update that paints more than this many screens' worth of pixels is an attack."""
_BYTES_PER_PIXEL = 4


class Decoder(Protocol):
    """What RfbClient needs of a decoder; the one place to put a faster one.

    It is given the bytes that follow ServerInit, in the pixel format ``RGBX``, cut anywhere.
    """

    @property
    def framebuffer(self) -> UInt8Array:
        """uint8[H, W, 4]: R, G, B, unused. Rewritten in place; another array after a resize."""
        ...

    @property
    def has_picture(self) -> bool:
        """Whether every pixel was sent since the start or the last resize."""
        ...

    @property
    def is_updating(self) -> bool:
        """Whether an update has begun and not ended: the framebuffer is between two pictures."""
        ...

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes; they must not change until ``next_event`` has returned None."""
        ...

    def next_event(self) -> RfbEvent | None:
        """Decodes up to the next event and returns it, or None when more bytes are needed.

        Raises:
            RemoteProtocolError: The stream is damaged; every later call raises it again.
        """
        ...


class NumpyDecoder:
    """A Decoder in numpy, zlib and libjpeg-turbo.

    Args:
        width: Of the desktop, in pixels.
        height: In pixels.

    Raises:
        RemoteProtocolError: The desktop is empty, or too large to be one.
    """

    def __init__(self, width: int, height: int) -> None:
        self._buffer = ReceiveBuffer()
        self._tight = TightDecoder()
        self._zrle = ZrleDecoder()
        self._wanted = 1
        self._failure: RemoteProtocolError | None = None
        self._is_updating = False
        self._resize(width, height)
        self._parser = self._messages()

    @property
    def framebuffer(self) -> UInt8Array:
        """See Decoder."""
        return self._framebuffer.pixels

    @property
    def has_picture(self) -> bool:
        """See Decoder."""
        return self._unseen is None

    @property
    def is_updating(self) -> bool:
        """See Decoder."""
        return self._is_updating

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """See Decoder."""
        self._buffer.append(data)

    def next_event(self) -> RfbEvent | None:
        """See Decoder."""
        if self._failure is not None:
            raise self._failure
        while self._buffer.wait_for(self._wanted):
            try:
                step = next(self._parser)
            except RemoteProtocolError as error:
                self._failure = error
                raise
            if not isinstance(step, int):
                self._wanted = 0
                return step
            self._wanted = step
        return None

    def _resize(self, width: int, height: int) -> None:
        self._framebuffer = Framebuffer(width, height)
        self._unseen: npt.NDArray[np.bool_] | None = np.ones((height, width), np.bool_)

    def _messages(self) -> Generator[int | RfbEvent, None, None]:
        """Yields how many bytes it waits for, and events; never ends."""
        buffer = self._buffer
        while True:
            if buffer.available < 1:
                yield 1
            kind = buffer.take_byte()
            if kind == ServerMessage.FRAMEBUFFER_UPDATE:
                yield from self._update()
            elif kind == ServerMessage.BELL:
                yield Bell()
            elif kind == ServerMessage.CUT_TEXT:
                yield from self._cut_text()
            elif kind == ServerMessage.SET_COLOUR_MAP_ENTRIES:
                yield from self._skip_colour_map()
            else:
                raise RemoteProtocolError(
                    f"RFB message {kind} is not known; the stream is damaged, or the server uses "
                    "an extension that it was not offered"
                )

    def _cut_text(self) -> Generator[int | RfbEvent, None, None]:
        yield 7
        self._buffer.take(3)
        (length,) = self._buffer.unpack(U32)
        if length > MAX_TEXT_BYTES:
            raise RemoteProtocolError(
                f"RFB ServerCutText: {length} bytes announced, at most {MAX_TEXT_BYTES} are taken"
            )
        yield length
        yield CutText(bytes(self._buffer.take(length)).decode("latin-1"))

    def _skip_colour_map(self) -> Generator[int, None, None]:
        yield 5
        self._buffer.take(3)
        (count,) = self._buffer.unpack(U16)
        yield count * 6
        self._buffer.take(count * 6)

    def _update(self) -> Generator[int | RfbEvent, None, None]:
        buffer = self._buffer
        begin_bytes = buffer.taken_bytes - 1
        if buffer.available < 3:
            yield 3
        buffer.take(1)
        (count,) = buffer.unpack(U16)
        self._is_updating = True
        yield UpdateBegun()
        rectangles = pixels = right = bottom = 0
        left, top = self._framebuffer.width, self._framebuffer.height
        for _ in range(count):
            if buffer.available < RECTANGLE.size:
                yield RECTANGLE.size
            x, y, width, height, encoding = buffer.unpack(RECTANGLE)
            if encoding == Encoding.LAST_RECT:
                break
            if encoding == Encoding.DESKTOP_SIZE:
                if (width, height) != (self._framebuffer.width, self._framebuffer.height):
                    self._resize(width, height)
                    rectangles = pixels = right = bottom = 0
                    left, top = width, height
                    yield DesktopResized(width, height)
                continue
            self._check_inside(x, y, width, height)
            pixels += width * height
            if pixels > _MAX_REPAINTS * self._framebuffer.words.size:
                raise RemoteProtocolError(
                    f"RFB update: paints the screen over {_MAX_REPAINTS} times; the stream is "
                    "damaged"
                )
            yield from self._rectangle(x, y, width, height, encoding)
            rectangles += 1
            left, right = min(left, x), max(right, x + width)
            top, bottom = min(top, y), max(bottom, y + height)
            if self._unseen is not None:
                self._unseen[y : y + height, x : x + width] = False
        self._is_updating = False
        if self._unseen is not None and not self._unseen.any():
            self._unseen = None
        taken_bytes = buffer.taken_bytes - begin_bytes
        if rectangles:
            yield ScreenUpdated(
                rectangles, pixels, taken_bytes, left, top, right - left, bottom - top
            )

    def _check_inside(self, x: int, y: int, width: int, height: int) -> None:
        framebuffer = self._framebuffer
        if x + width > framebuffer.width or y + height > framebuffer.height:
            raise RemoteProtocolError(
                f"RFB rectangle {width}x{height} at {x},{y} lies outside the desktop of "
                f"{framebuffer.width}x{framebuffer.height}; the stream is damaged"
            )

    def _rectangle(
        self, x: int, y: int, width: int, height: int, encoding: int
    ) -> Generator[int, None, None]:
        if encoding == Encoding.TIGHT:
            return self._tight.rectangle(self._buffer, self._framebuffer, x, y, width, height)
        if encoding == Encoding.RAW:
            return self._raw(x, y, width, height)
        if encoding == Encoding.COPY_RECT:
            return self._copy_rect(x, y, width, height)
        if encoding == Encoding.ZRLE:
            return self._zrle.rectangle(self._buffer, self._framebuffer, x, y, width, height)
        raise RemoteProtocolError(
            f"RFB rectangle in encoding {encoding}, which was not asked for; the stream is damaged"
        )

    def _raw(self, x: int, y: int, width: int, height: int) -> Generator[int, None, None]:
        """Copies pixels as they come, so that none has to wait for the rest of its rectangle."""
        buffer = self._buffer
        rows = self._framebuffer.rows
        row_bytes = width * _BYTES_PER_PIXEL
        begin = x * _BYTES_PER_PIXEL
        row, column = y, 0
        while row < y + height and row_bytes:
            if not buffer.available:
                yield 1
            whole_rows = min(y + height - row, buffer.available // row_bytes)
            if column or not whole_rows:
                count = min(row_bytes - column, buffer.available)
                start = begin + column
                rows[row, start : start + count] = np.frombuffer(buffer.take(count), np.uint8)
                column += count
                if column == row_bytes:
                    row, column = row + 1, 0
                continue
            rows[row : row + whole_rows, begin : begin + row_bytes] = np.frombuffer(
                buffer.take(whole_rows * row_bytes), np.uint8
            ).reshape(whole_rows, row_bytes)
            row += whole_rows

    def _copy_rect(self, x: int, y: int, width: int, height: int) -> Generator[int, None, None]:
        yield 4
        from_x, from_y = self._buffer.unpack(POINT)
        self._check_inside(from_x, from_y, width, height)
        words = self._framebuffer.words
        words[y : y + height, x : x + width] = words[
            from_y : from_y + height, from_x : from_x + width
        ]
