"""The client's end of RFB 3.8 and 3.3: bytes in, events out; no sockets, no clocks."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Generator, Iterator

import numpy as np

from raygym.config import VncOptions
from raygym.core import UInt8Array
from raygym.errors import HandshakeRefused, LocalProtocolError, ProtocolError, RemoteProtocolError
from raygym.wire import vnc_auth
from raygym.wire.decoder import Decoder, NumpyDecoder
from raygym.wire.encodings import (
    MAX_NAME_BYTES,
    MAX_TEXT_BYTES,
    SERVER_INIT,
    U32,
    ClientMessage,
    Security,
    requested_encodings,
)
from raygym.wire.pixel_format import RGBX
from raygym.wire.receive_buffer import ReceiveBuffer
from raygym.wire.rfb_events import (
    Bell,
    Connected,
    CutText,
    DesktopResized,
    RfbEvent,
    ScreenUpdated,
    UpdateBegun,
)

__all__ = [
    "Bell",
    "Connected",
    "CutText",
    "DesktopResized",
    "RfbClient",
    "RfbEvent",
    "ScreenUpdated",
]

_VERSION_BYTES = 12
_VERSION = re.compile(rb"RFB (\d{3})\.(\d{3})\n")
_SECURITY_NAMES = {
    1: "None",
    2: "VncAuth",
    5: "RA2",
    6: "RA2ne",
    16: "Tight",
    18: "TLS",
    19: "VeNCrypt",
    20: "SASL",
    30: "Apple",
}
_NO_PICTURE: UInt8Array = np.zeros((0, 0, 4), np.uint8)


class RfbClient:
    """One connection to a VNC server, without its socket.

    Feed it what the socket gives, send what ``data_to_send`` returns, after every call.
    It asks for the whole screen as soon as it is connected, and for the next change as soon as
    an update begins, which hides the way to the server.

    Args:
        password: Up to eight bytes count; None where the server asks for none.
        options: What to ask the server for.
        is_shared: Whether other clients may stay connected.
        decoder: Makes the decoder from the desktop's width and height.
    """

    def __init__(
        self,
        *,
        password: str | None,
        options: VncOptions,
        is_shared: bool = True,
        decoder: Callable[[int, int], Decoder] = NumpyDecoder,
    ) -> None:
        self.auto_request = True
        """Whether updates are asked for without ``request_update``."""
        self.is_connected = False
        """Whether the handshake is done."""
        self.name = ""
        """What the server calls its desktop."""
        self._password = password
        self._options = options
        self._is_shared = is_shared
        self._make_decoder = decoder
        self._decoder: Decoder | None = None
        self._outgoing = bytearray()
        self._buffer = ReceiveBuffer()
        self._wanted = 0
        self._failure: ProtocolError | None = None
        self._handshake = self._shake_hands()
        self._owes_request = False

    @property
    def framebuffer(self) -> UInt8Array:
        """uint8[H, W, 4]: R, G, B, unused. Rewritten in place; another array after a resize."""
        return _NO_PICTURE if self._decoder is None else self._decoder.framebuffer

    @property
    def width(self) -> int:
        """Of the desktop, in pixels; 0 before the handshake is done."""
        return int(self.framebuffer.shape[1])

    @property
    def height(self) -> int:
        """Of the desktop, in pixels; 0 before the handshake is done."""
        return int(self.framebuffer.shape[0])

    @property
    def has_picture(self) -> bool:
        """Whether every pixel came since connecting, or since the last resize."""
        return self._decoder is not None and self._decoder.has_picture

    @property
    def is_updating(self) -> bool:
        """Whether an update has begun and not ended: the framebuffer is between two pictures."""
        return self._decoder is not None and self._decoder.is_updating

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[RfbEvent]:
        """Takes what the server sent, cut anywhere, and returns what it meant.

        Where one chunk holds the end of an update and the beginning of the next, the
        framebuffer is already partly the next one's: see ``is_updating`` and ``iter_events``.

        Raises:
            RemoteProtocolError: The server broke the protocol; the connection is of no more use.
            HandshakeRefused: No common security type, or a wrong password.
        """
        return list(self.iter_events(data))

    def iter_events(self, data: bytes | bytearray | memoryview) -> Iterator[RfbEvent]:
        """As ``receive_data``, decoding no byte beyond an event before the next is asked for.

        So at each ScreenUpdated the framebuffer holds one whole picture. Run the iterator to
        its end before changing ``data``.

        Raises:
            RemoteProtocolError: The server broke the protocol; the connection is of no more use.
            HandshakeRefused: No common security type, or a wrong password.
        """
        if self._failure is not None:
            raise self._failure
        try:
            yield from self._events(data)
        except ProtocolError as error:
            self._failure = error
            raise

    def data_to_send(self) -> bytes:
        """Returns what must be sent to the server now, and forgets it."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def request_update(self, *, is_incremental: bool = True) -> None:
        """Asks for what changed on the screen, or for all of it.

        Raises:
            LocalProtocolError: The handshake is not done.
        """
        self._check_connected("ask for an update")
        self._outgoing += struct.pack(
            ">BBHHHH",
            ClientMessage.FRAMEBUFFER_UPDATE_REQUEST,
            is_incremental,
            0,
            0,
            self.width,
            self.height,
        )

    def key_event(self, keysym: int, is_down: bool) -> None:
        """Presses or releases a key.

        Args:
            keysym: X11 keysym; see ``raygym.wire.keysyms``.
            is_down: False to release it.

        Raises:
            LocalProtocolError: The handshake is not done, or this is no keysym.
        """
        self._check_connected("send a key")
        if not 0 < keysym < 1 << 32:
            raise LocalProtocolError(f"RFB key event: expected a keysym of 32 bits, got {keysym}")
        self._outgoing += struct.pack(">BBxxI", ClientMessage.KEY_EVENT, is_down, keysym)

    def pointer_event(self, x: int, y: int, buttonmask: int) -> None:
        """Moves the pointer and says which buttons are held.

        Args:
            x: Pixels from the left; moved to the nearest that the desktop has.
            y: Pixels from the top; likewise.
            buttonmask: Bit 0 is the left button, 1 the middle, 2 the right.

        Raises:
            LocalProtocolError: The handshake is not done, or the mask is not 0 to 255.
        """
        self._check_connected("move the pointer")
        if not 0 <= buttonmask <= 255:
            raise LocalProtocolError(
                f"RFB pointer event: expected a mask of 0 to 255, got {buttonmask}"
            )
        self._outgoing += struct.pack(
            ">BBHH",
            ClientMessage.POINTER_EVENT,
            buttonmask,
            min(max(x, 0), self.width - 1),
            min(max(y, 0), self.height - 1),
        )

    def _check_connected(self, what: str) -> None:
        if not self.is_connected:
            raise LocalProtocolError(f"RfbClient can't {what} before it is connected")

    def _events(self, data: bytes | bytearray | memoryview) -> Iterator[RfbEvent]:
        if self._decoder is None:
            self._buffer.append(data)
            connected = self._continue_handshake()
            if connected is None:
                return
            yield connected
            data = self._buffer.take_rest()
        assert self._decoder is not None  # noqa: S101  a finished handshake has made it
        self._decoder.receive_data(data)
        while (event := self._decoder.next_event()) is not None:
            if isinstance(event, UpdateBegun):
                self._update_begun()
                continue
            if isinstance(event, DesktopResized):
                self._owes_request = True
            elif isinstance(event, ScreenUpdated) and not self._decoder.is_updating:
                self._update_ended()
            yield event
        if not self._decoder.is_updating:
            self._update_ended()

    def _update_begun(self) -> None:
        """Asks for the next change at once, or, before there is a picture, at the end."""
        if self.has_picture and self.auto_request:
            self.request_update()
        else:
            self._owes_request = True

    def _update_ended(self) -> None:
        if self._owes_request:
            self._owes_request = False
            if self.auto_request:
                self.request_update(is_incremental=self.has_picture)

    def _continue_handshake(self) -> Connected | None:
        while self._buffer.wait_for(self._wanted):
            step = next(self._handshake)
            if isinstance(step, Connected):
                return step
            self._wanted = step
        return None

    def _shake_hands(self) -> Generator[int | Connected, None, None]:
        """Yields how many bytes it waits for, and Connected last."""
        minor = yield from self._agree_on_version()
        security = yield from self._agree_on_security(minor)
        if security == Security.VNC_AUTH:
            yield vnc_auth.CHALLENGE_BYTES
            challenge = bytes(self._buffer.take(vnc_auth.CHALLENGE_BYTES))
            self._outgoing += vnc_auth.response(challenge, self._password or "")
        if security == Security.VNC_AUTH or minor >= 8:
            yield from self._check_security_result(minor)
        self._outgoing.append(self._is_shared)
        yield SERVER_INIT.size
        width, height, _, name_bytes = self._buffer.unpack(SERVER_INIT)
        if name_bytes > MAX_NAME_BYTES:
            raise RemoteProtocolError(
                f"RFB ServerInit: a name of {name_bytes} bytes, at most {MAX_NAME_BYTES} are taken"
            )
        yield name_bytes
        self.name = bytes(self._buffer.take(name_bytes)).decode("utf-8", "replace")
        self._decoder = self._make_decoder(width, height)
        self.is_connected = True
        self._ask_for_format()
        if self.auto_request:
            self.request_update(is_incremental=False)
        yield Connected(width, height, self.name)

    def _agree_on_version(self) -> Generator[int, None, int]:
        yield _VERSION_BYTES
        greeting = bytes(self._buffer.take(_VERSION_BYTES))
        match = _VERSION.fullmatch(greeting)
        if match is None:
            raise RemoteProtocolError(
                f"RFB: the server began with {greeting!r}, not with an RFB version; is this "
                "address a VNC server's?"
            )
        version = int(match[1]), int(match[2])
        if version < (3, 3):
            raise HandshakeRefused(
                f"RFB: the server speaks version {version[0]}.{version[1]}; raygym needs 3.3 or "
                "newer"
            )
        minor = 8 if version >= (3, 8) else 3
        self._outgoing += b"RFB 003.%03d\n" % minor
        return minor

    def _agree_on_security(self, minor: int) -> Generator[int, None, int]:
        if minor < 8:
            yield U32.size
            offered = [int(self._buffer.unpack(U32)[0])]
        else:
            yield 1
            count = self._buffer.take_byte()
            yield count
            offered = list(self._buffer.take(count))
        if not offered or offered == [Security.INVALID]:
            reason = yield from self._reason()
            raise HandshakeRefused(f"RFB: the server refuses to talk and says {reason!r}")
        chosen = self._choose_security(offered)
        if minor >= 8:
            self._outgoing.append(chosen)
        return chosen

    def _choose_security(self, offered: list[int]) -> int:
        if Security.VNC_AUTH in offered and self._password is not None:
            return Security.VNC_AUTH
        if Security.NONE in offered:
            return Security.NONE
        if Security.VNC_AUTH in offered:
            raise HandshakeRefused(
                "RFB: the server asks for a password and none was given; pass the one that the "
                "remote was started with"
            )
        names = ", ".join(f"{n} ({_SECURITY_NAMES.get(n, 'unknown')})" for n in offered)
        raise HandshakeRefused(
            f"RFB: the server offers the security types {names}; raygym speaks 1 (None) and "
            "2 (VncAuth): start the server with one of them, as with Xvnc -SecurityTypes VncAuth"
        )

    def _check_security_result(self, minor: int) -> Generator[int, None, None]:
        yield U32.size
        (result,) = self._buffer.unpack(U32)
        if result == 0:
            return
        reason = "no reason"
        if minor >= 8:
            reason = repr((yield from self._reason()))
        given = "this password" if self._password is not None else "a client without a password"
        raise HandshakeRefused(
            f"RFB: the server refused {given} and says {reason}; check the password (only its "
            "first 8 bytes count), and wait a minute after too many failures"
        )

    def _reason(self) -> Generator[int, None, str]:
        yield U32.size
        (length,) = self._buffer.unpack(U32)
        if length > MAX_TEXT_BYTES:
            return f"({length} bytes, too many to read)"
        yield length
        return bytes(self._buffer.take(length)).decode("utf-8", "replace")

    def _ask_for_format(self) -> None:
        numbers = requested_encodings(self._options)
        self._outgoing += struct.pack(">B3x", ClientMessage.SET_PIXEL_FORMAT) + RGBX.pack()
        self._outgoing += struct.pack(
            f">BxH{len(numbers)}i", ClientMessage.SET_ENCODINGS, len(numbers), *numbers
        )
