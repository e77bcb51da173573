"""What a viewer of the wall may say to a screen. RFC 6143; bytes in, bytes out, no sockets.

The wall itself gives the remote's password; the page never learns it. A page that may only look
is held to it here: its keys, clicks and clipboard are dropped, whatever it sends.
"""

from __future__ import annotations

import struct
from collections.abc import Generator

from raygym.config import VncOptions
from raygym.errors import RemoteProtocolError
from raygym.wire.encodings import MAX_TEXT_BYTES, SERVER_INIT, U32, ClientMessage, Security
from raygym.wire.pixel_format import RGBX
from raygym.wire.receive_buffer import ReceiveBuffer
from raygym.wire.rfb_client import RfbClient
from raygym.wire.rfb_events import Connected

_VERSION = b"RFB 003.008\n"
_NO_ERROR = U32.pack(0)

_CONTINUOUS_UPDATES = 150
_FENCE = 248
_XVP = 250
_SET_DESKTOP_SIZE = 251
_QEMU = 255
_QEMU_KEY = 0

_LOOKING = {
    ClientMessage.SET_PIXEL_FORMAT,
    ClientMessage.SET_ENCODINGS,
    ClientMessage.FRAMEBUFFER_UPDATE_REQUEST,
    _CONTINUOUS_UPDATES,
    _FENCE,
}
_DRIVING = _LOOKING | {
    ClientMessage.KEY_EVENT,
    ClientMessage.POINTER_EVENT,
    ClientMessage.CUT_TEXT,
    _QEMU,
}
_INPUT = {ClientMessage.KEY_EVENT, ClientMessage.POINTER_EVENT, _QEMU}
_FIXED_BYTES = {
    ClientMessage.SET_PIXEL_FORMAT: 20,
    ClientMessage.FRAMEBUFFER_UPDATE_REQUEST: 10,
    ClientMessage.KEY_EVENT: 8,
    ClientMessage.POINTER_EVENT: 6,
    _CONTINUOUS_UPDATES: 10,
    _XVP: 4,
}


class ScreenGreeter:
    """Shakes hands with a screen, in place of the page.

    Args:
        password: The screen's; None where it asks for none.
    """

    def __init__(self, password: str | None) -> None:
        self._client = RfbClient(password=password, options=VncOptions(), is_shared=True)
        self._client.auto_request = False
        self.greeting: bytes | None = None
        """The screen's size and name, for a page; None until the hands are shaken."""

    def receive_data(self, data: bytes) -> bytes:
        """Takes what the screen sent; returns what it is to be sent.

        Raises:
            ProtocolError: It speaks no RFB, or refuses the password.
        """
        for event in self._client.receive_data(data):
            if isinstance(event, Connected):
                name = event.name.encode()
                self.greeting = SERVER_INIT.pack(event.width, event.height, RGBX.pack(), len(name))
                self.greeting += name
        answer = self._client.data_to_send()
        # What the client asks for after that is the page's to ask.
        return b"" if self.greeting is not None else answer


class PageGate:
    """The far end that a page speaks with: asks it for no password and filters what it says.

    Args:
        greeting: What ``ScreenGreeter`` was told.
        may_drive: Whether keys and clicks pass.
    """

    def __init__(self, greeting: bytes, *, may_drive: bool) -> None:
        self.has_input = False
        """Whether a key or click passed since somebody last set this to False."""
        self.has_greeted = False
        """Whether the page knows the screen's size, so that the screen may speak."""
        self._allowed = _DRIVING if may_drive else _LOOKING
        self._greeting = greeting
        self._buffer = ReceiveBuffer()
        self._to_page = bytearray(_VERSION)
        self._to_screen = bytearray()
        self._message = b""
        self._parser = self._conversation()
        self._wanted = 0

    def receive_data(self, data: bytes) -> None:
        """Takes what the page sent, cut anywhere.

        Raises:
            RemoteProtocolError: It broke the protocol; close both ends.
        """
        self._buffer.append(data)
        while self._buffer.wait_for(self._wanted):
            self._wanted = next(self._parser)

    def take_for_page(self) -> bytes:
        """Returns what the page is to be sent, and forgets it."""
        data = bytes(self._to_page)
        self._to_page.clear()
        return data

    def take_for_screen(self) -> bytes:
        """Returns what the screen is to be sent, and forgets it."""
        data = bytes(self._to_screen)
        self._to_screen.clear()
        return data

    def _conversation(self) -> Generator[int, None, None]:
        """Yields how many bytes it waits for; never ends."""
        yield len(_VERSION)
        if bytes(self._buffer.take(len(_VERSION))) != _VERSION:
            raise RemoteProtocolError("RFB: a page of the wall speaks version 3.8 and no other")
        self._to_page += bytes([1, Security.NONE])
        yield 1
        if self._buffer.take_byte() != Security.NONE:
            raise RemoteProtocolError("RFB: a page chose a security type that was not offered")
        self._to_page += _NO_ERROR
        # Whether it would share the screen; the wall always does.
        yield 1
        self._buffer.take(1)
        self._to_page += self._greeting
        self.has_greeted = True
        while True:
            yield 1
            kind = self._buffer.take_byte()
            self._message = bytes([kind])
            for length in self._rest(kind):
                yield length
                self._message += bytes(self._buffer.take(length))
            if kind in self._allowed:
                self._to_screen += self._message
                self.has_input = self.has_input or kind in _INPUT

    def _rest(self, kind: int) -> Generator[int, None, None]:
        """Yields the lengths of a message's parts after its first byte.

        ``_message`` is what there is of it so far.
        """
        if kind in _FIXED_BYTES:
            yield _FIXED_BYTES[kind] - 1
        elif kind == ClientMessage.SET_ENCODINGS:
            yield 3
            yield 4 * struct.unpack_from(">H", self._message, 2)[0]
        elif kind == ClientMessage.CUT_TEXT:
            yield 7
            # A negative length is that of an extended clipboard's message.
            length = abs(struct.unpack_from(">i", self._message, 4)[0])
            if length > MAX_TEXT_BYTES:
                raise RemoteProtocolError(
                    f"RFB ClientCutText: {length} bytes announced, at most {MAX_TEXT_BYTES} pass"
                )
            yield length
        elif kind == _FENCE:
            yield 8
            yield self._message[8]
        elif kind == _SET_DESKTOP_SIZE:
            yield 7
            yield 16 * self._message[6]
        elif kind == _QEMU:
            yield 1
            if self._message[1] != _QEMU_KEY:
                raise RemoteProtocolError(
                    f"RFB QEMU message {self._message[1]} of a page is not known"
                )
            yield 10
        else:
            raise RemoteProtocolError(f"RFB message {kind} of a page is not known")
