"""Just enough of an X11 client to draw known pictures on a server's root window."""

from __future__ import annotations

import socket
import struct

import numpy as np

_GRAPHICS_CONTEXT = 1
_Z_PIXMAP = 2
_COPY_AREA, _CREATE_GC, _FILL, _PUT_IMAGE, _GET_INPUT_FOCUS = 62, 55, 70, 72, 43
_CHANGE_GC, _QUERY_POINTER, _QUERY_KEYMAP, _GET_KEYBOARD_MAPPING = 56, 38, 44, 101
_FOREGROUND, _NO_GRAPHICS_EXPOSURES = 1 << 2, 1 << 16
_MAX_REQUEST_BYTES = 200_000


class X11Canvas:
    """Draws on the root window of a local, 24-bit deep X server.

    Args:
        display: Number of the display.
        timeout_s: Longest wait for any answer.
    """

    def __init__(self, display: int, *, timeout_s: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(f"/tmp/.X11-unix/X{display}")
        self._socket.sendall(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
        status, words = struct.unpack("<BxxxxxH", self._receive(8))
        setup = self._receive(words * 4)
        assert status == 1, setup
        (self._id_base,) = struct.unpack_from("<I", setup, 4)
        (vendor_bytes,) = struct.unpack_from("<H", setup, 16)
        formats = setup[21]
        (self._root,) = struct.unpack_from(
            "<I", setup, 32 + -(-vendor_bytes // 4) * 4 + 8 * formats
        )
        self._context = self._id_base | _GRAPHICS_CONTEXT
        values = struct.pack("<III", _NO_GRAPHICS_EXPOSURES, 0, 0)[:8]
        self._request(_CREATE_GC, struct.pack("<II", self._context, self._root) + values)

    def fill(self, x: int, y: int, width: int, height: int, colour: tuple[int, int, int]) -> None:
        """Fills a rectangle with one colour, given as R, G, B."""
        red, green, blue = colour
        self._request(
            _CHANGE_GC,
            struct.pack("<III", self._context, _FOREGROUND, red << 16 | green << 8 | blue),
        )
        where = struct.pack("<hhHH", x, y, width, height)
        self._request(_FILL, struct.pack("<II", self._root, self._context) + where)

    def put(self, x: int, y: int, rgb: np.ndarray) -> None:
        """Puts a picture uint8[H, W, 3] with its top left corner at x, y."""
        height, width, _ = rgb.shape
        bgrx = np.zeros((height, width, 4), np.uint8)
        bgrx[..., :3] = rgb[..., ::-1]
        rows = max(1, _MAX_REQUEST_BYTES // (width * 4))
        for top in range(0, height, rows):
            strip = bgrx[top : top + rows]
            header = struct.pack(
                "<IIHHhhBBxx",
                self._root,
                self._context,
                width,
                len(strip),
                x,
                y + top,
                0,
                24,
            )
            self._request(_PUT_IMAGE, header + strip.tobytes(), detail=_Z_PIXMAP)

    def copy(self, x: int, y: int, width: int, height: int, to_x: int, to_y: int) -> None:
        """Copies a rectangle to another place."""
        body = struct.pack(
            "<IIIhhhhHH", self._root, self._root, self._context, x, y, to_x, to_y, width, height
        )
        self._request(_COPY_AREA, body)

    def sync(self) -> None:
        """Waits until all that was asked is drawn."""
        self._request(_GET_INPUT_FOCUS, b"")
        self._reply()

    def pointer(self) -> tuple[int, int, int]:
        """Returns x, y and the mask of buttons held, bit 0 the left one."""
        self._request(_QUERY_POINTER, struct.pack("<I", self._root))
        x, y, _, _, mask = struct.unpack_from("<hhhhH", self._reply(), 16)
        return x, y, mask >> 8

    def held_keysyms(self) -> set[int]:
        """Returns the first keysym of each key that is down."""
        self._request(_QUERY_KEYMAP, b"")
        answer = self._reply()
        down = [n for n in range(8, 256) if answer[8 + n // 8] >> n % 8 & 1]
        return {self._first_keysym(keycode) for keycode in down}

    def _first_keysym(self, keycode: int) -> int:
        self._request(_GET_KEYBOARD_MAPPING, struct.pack("<BBxx", keycode, 1))
        return struct.unpack_from("<I", self._reply(), 32)[0]

    def close(self) -> None:
        """Closes the connection; what was drawn stays."""
        self._socket.close()

    def _request(self, opcode: int, body: bytes, *, detail: int = 0) -> None:
        self._socket.sendall(struct.pack("<BBH", opcode, detail, 1 + len(body) // 4) + body)

    def _reply(self) -> bytes:
        while True:
            answer = self._receive(32)
            assert answer[0] != 0, f"X error: {answer!r}"
            if answer[0] == 1:
                (words,) = struct.unpack_from("<I", answer, 4)
                return answer + self._receive(words * 4)
            # Anything else is an event, such as a new keyboard mapping.

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the X server closed the connection"
            data += part
        return bytes(data)
