"""The server's end of RFB 3.8, 3.7 and 3.3: bytes in, events out; no sockets, no clocks."""

from __future__ import annotations

import dataclasses
import hmac
import re
import secrets
import struct
from collections.abc import Generator

import numpy as np

from raygym.config import VncOptions
from raygym.core import UInt8Array
from raygym.errors import ConfigError, HandshakeRefused, ProtocolError, RemoteProtocolError
from raygym.wire import vnc_auth
from raygym.wire.encoder import Box, Encoder, changed_box, common_box
from raygym.wire.encodings import (
    MAX_HEIGHT_PX,
    MAX_TEXT_BYTES,
    MAX_WIDTH_PX,
    SERVER_INIT,
    U16,
    U32,
    ClientMessage,
    Security,
    ServerMessage,
    understood_options,
)
from raygym.wire.pixel_format import RGBX, PixelFormat
from raygym.wire.receive_buffer import ReceiveBuffer
from raygym.wire.rfb_events import (
    ClientReady,
    KeyEvent,
    PointerEvent,
    RfbServerEvent,
    UpdateRequested,
)

__all__ = [
    "ClientReady",
    "KeyEvent",
    "PointerEvent",
    "RfbServer",
    "RfbServerEvent",
    "UpdateRequested",
]

_VERSION_BYTES = 12
_VERSION = re.compile(rb"RFB 003\.(\d{3})\n")
_UPDATE_REQUEST = struct.Struct(">BHHHH")
_KEY = struct.Struct(">BxxI")
_POINTER = struct.Struct(">BHH")


class RfbServer:
    """One connection to a VNC client, without its socket.

    Feed it what the socket gives, send what ``data_to_send`` returns, after every call, also
    after one that raised: the client is told why.

    Args:
        width: Of the screen, in pixels, 1 to 5120.
        height: In pixels, 1 to 2880.
        name: Shown in a viewer's title.
        password: Up to eight bytes count; None lets everybody in.
        exact: A part that is sent without loss, whatever the client asks for.
        challenge: 16 bytes that the client must encrypt; random unless a test gives them.

    Raises:
        ConfigError: The screen is empty or too large.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        name: str,
        password: str | None,
        exact: Box | None = None,
        challenge: bytes | None = None,
    ) -> None:
        if not (0 < width <= MAX_WIDTH_PX and 0 < height <= MAX_HEIGHT_PX):
            raise ConfigError(
                f"RfbServer: expected a screen of 1x1 to {MAX_WIDTH_PX}x{MAX_HEIGHT_PX}, got "
                f"{width}x{height}"
            )
        self._width = width
        self._height = height
        self._name = name.encode()
        self._password = password
        self._exact = exact
        self._challenge = challenge or secrets.token_bytes(vnc_auth.CHALLENGE_BYTES)
        self._outgoing = bytearray(b"RFB 003.008\n")
        self._buffer = ReceiveBuffer()
        self._wanted = 0
        self._failure: ProtocolError | None = None
        self._parser = self._conversation()
        self._pixel_format = RGBX
        self._options = VncOptions(encoding="raw")
        self._encoder = Encoder()
        self._sent: UInt8Array | None = None
        self._asked: Box | None = None
        self._is_whole_asked = False

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[RfbServerEvent]:
        """Takes what the client sent, cut anywhere, and returns what it meant.

        Raises:
            RemoteProtocolError: The client broke the protocol; send what is left and close.
            HandshakeRefused: No common security type, or a wrong password; likewise.
        """
        if self._failure is not None:
            raise self._failure
        self._buffer.append(data)
        events: list[RfbServerEvent] = []
        while self._buffer.wait_for(self._wanted):
            try:
                step = next(self._parser)
            except ProtocolError as error:
                self._failure = error
                raise
            self._wanted = step if isinstance(step, int) else 0
            if not isinstance(step, int):
                events.append(step)
        return events

    def data_to_send(self) -> bytes:
        """Returns what must be sent to the client now, and forgets it."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def send_frame(self, pixels: UInt8Array) -> bool:
        """Sends what changed since the last frame sent, if the client waits for an update.

        A client that was never sent a frame is sent all of it, whatever it asked for.

        Args:
            pixels: uint8[H, W, 3], RGB, of the size given at construction.

        Returns:
            Whether an update was queued. If not, nobody asked, or nothing changed.

        Raises:
            ValueError: The pixels are not of that shape or dtype.
        """
        if pixels.shape != (self._height, self._width, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"RfbServer.send_frame: expected uint8[{self._height}, {self._width}, 3], got "
                f"{pixels.dtype}{list(pixels.shape)}"
            )
        if self._asked is None:
            return False
        if self._sent is None:
            # The opposite of each byte: the frame differs everywhere.
            self._sent = np.invert(pixels)
        box = self._box_to_send(self._sent, pixels)
        if box is None:
            return False
        rectangles = self._rectangles(pixels, box)
        box.of(self._sent)[:] = box.of(pixels)
        self._outgoing += struct.pack(">BxH", ServerMessage.FRAMEBUFFER_UPDATE, len(rectangles))
        for rectangle in rectangles:
            self._outgoing += rectangle
        self._asked = None
        self._is_whole_asked = False
        return True

    def _rectangles(self, pixels: UInt8Array, box: Box) -> list[bytes]:
        rectangles = self._encoder.rectangles(pixels, box, self._pixel_format, self._options)
        exact = None if self._exact is None else common_box(box, self._exact)
        is_lossy = (
            self._options.encoding == "tight" and self._options.fine_quality_level is not None
        )
        if exact is None or not is_lossy:
            return rectangles
        # After the others, so that it covers what JPEG made of it.
        options = dataclasses.replace(self._options, fine_quality_level=None)
        return rectangles + self._encoder.rectangles(pixels, exact, self._pixel_format, options)

    def _box_to_send(self, sent: UInt8Array, pixels: UInt8Array) -> Box | None:
        asked = self._asked
        if asked is None or self._is_whole_asked:
            return asked
        changed = changed_box(asked.of(sent), asked.of(pixels))
        if changed is None:
            return None
        return Box(asked.x + changed.x, asked.y + changed.y, changed.width, changed.height)

    def _conversation(self) -> Generator[int | RfbServerEvent, None, None]:
        """Yields how many bytes it waits for, and events; never ends."""
        minor = yield from self._agree_on_version()
        yield from self._agree_on_security(minor)
        yield 1
        is_shared = self._buffer.take_byte() != 0
        self._outgoing += SERVER_INIT.pack(self._width, self._height, RGBX.pack(), len(self._name))
        self._outgoing += self._name
        yield ClientReady(is_shared)
        while True:
            yield 1
            yield from self._message(self._buffer.take_byte())

    def _agree_on_version(self) -> Generator[int, None, int]:
        yield _VERSION_BYTES
        greeting = bytes(self._buffer.take(_VERSION_BYTES))
        match = _VERSION.fullmatch(greeting)
        if match is None or int(match[1]) < 3:
            raise RemoteProtocolError(
                f"RFB: the client began with {greeting!r}, not with an RFB version of 3.3 or newer"
            )
        minor = int(match[1])
        return minor if minor >= 7 else 3

    def _agree_on_security(self, minor: int) -> Generator[int, None, None]:
        offered = Security.NONE if self._password is None else Security.VNC_AUTH
        if minor == 3:
            self._outgoing += U32.pack(offered)
        else:
            self._outgoing += bytes([1, offered])
            yield 1
            chosen = self._buffer.take_byte()
            if chosen != offered:
                self._refuse(minor, f"security type {chosen} was not offered")
        if self._password is not None:
            self._outgoing += self._challenge
            yield vnc_auth.CHALLENGE_BYTES
            answer = bytes(self._buffer.take(vnc_auth.CHALLENGE_BYTES))
            if not hmac.compare_digest(answer, vnc_auth.response(self._challenge, self._password)):
                self._refuse(minor, "wrong password")
        if self._password is not None or minor >= 8:
            self._outgoing += U32.pack(0)

    def _refuse(self, minor: int, reason: str) -> None:
        self._outgoing += U32.pack(1)
        if minor >= 8:
            self._outgoing += U32.pack(len(reason)) + reason.encode()
        raise HandshakeRefused(f"RFB: a client was refused: {reason}")

    def _message(self, kind: int) -> Generator[int | RfbServerEvent, None, None]:
        buffer = self._buffer
        if kind == ClientMessage.FRAMEBUFFER_UPDATE_REQUEST:
            yield _UPDATE_REQUEST.size
            is_incremental, x, y, width, height = buffer.unpack(_UPDATE_REQUEST)
            self._note_request(is_incremental != 0, x, y, width, height)
            yield UpdateRequested(is_incremental != 0)
        elif kind == ClientMessage.KEY_EVENT:
            yield _KEY.size
            is_down, keysym = buffer.unpack(_KEY)
            yield KeyEvent(keysym, is_down != 0)
        elif kind == ClientMessage.POINTER_EVENT:
            yield _POINTER.size
            buttonmask, x, y = buffer.unpack(_POINTER)
            yield PointerEvent(x, y, buttonmask)
        elif kind == ClientMessage.SET_ENCODINGS:
            yield 1 + U16.size
            buffer.take(1)
            (count,) = buffer.unpack(U16)
            yield count * 4
            numbers = struct.unpack(f">{count}i", buffer.take(count * 4))
            self._options = understood_options(list(numbers))
        elif kind == ClientMessage.SET_PIXEL_FORMAT:
            yield 3 + 16
            buffer.take(3)
            self._pixel_format = PixelFormat.parse(bytes(buffer.take(16)))
        elif kind == ClientMessage.CUT_TEXT:
            yield from self._skip_cut_text()
        else:
            raise RemoteProtocolError(
                f"RFB message {kind} of a client is not known; it uses an extension that it was "
                "not offered, or the stream is damaged"
            )

    def _skip_cut_text(self) -> Generator[int, None, None]:
        yield 3 + U32.size
        self._buffer.take(3)
        (length,) = self._buffer.unpack(U32)
        if length > MAX_TEXT_BYTES:
            raise RemoteProtocolError(
                f"RFB ClientCutText: {length} bytes announced, at most {MAX_TEXT_BYTES} are taken"
            )
        yield length
        self._buffer.take(length)

    def _note_request(self, is_incremental: bool, x: int, y: int, width: int, height: int) -> None:
        left, top = min(x, self._width), min(y, self._height)
        right, bottom = min(x + width, self._width), min(y + height, self._height)
        if left >= right or top >= bottom:
            return
        if self._asked is not None:
            left, top = min(left, self._asked.x), min(top, self._asked.y)
            right = max(right, self._asked.x + self._asked.width)
            bottom = max(bottom, self._asked.y + self._asked.height)
        self._asked = Box(left, top, right - left, bottom - top)
        self._is_whole_asked = self._is_whole_asked or not is_incremental
