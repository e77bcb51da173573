"""The page's WebSocket, from our side: orders out, pictures in. Blocking, for one thread."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from typing import Any

import numpy as np

from raygym.core import UInt8Array
from raygym.errors import SessionLost, StepTimeout

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FINAL, _MASKED, _LENGTH = 0x80, 0x80, 0x7F
_MAX_TEXT_BYTES = 1 << 20
_MAX_CONTROL_BYTES = 125


class PageLink:
    """A conversation with a page: each order is answered by a text and a picture.

    Owns the socket. Not thread-safe but for ``close``.

    Args:
        sock: A WebSocket's, connected, after its handshake.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._deadline_s = 0.0
        self._buffer = bytearray()

    def ask(
        self, order: bytes, *, max_bytes: int, timeout_s: float
    ) -> tuple[dict[str, Any], UInt8Array]:
        """Sends an order and waits for what it brings.

        Args:
            order: JSON.
            max_bytes: Longest picture.
            timeout_s: Longest wait for all of it.

        Returns:
            What the page says, and its picture: uint8[bytes], valid until the next call.

        Raises:
            StepTimeout: It took longer; the link is of no use any more.
            SessionLost: The page is gone, failed at it, or says what makes no sense.
        """
        self._deadline_s = time.monotonic() + timeout_s
        try:
            self._send(_TEXT, order)
            said = json.loads(self._message(_TEXT, _MAX_TEXT_BYTES).tobytes())
            if "error" in said:
                raise SessionLost(f"the page failed at it: {said['error']}")
            return said, self._message(_BINARY, max_bytes)
        except TimeoutError as error:
            raise StepTimeout(f"the page gave no answer within {timeout_s:g} s") from error
        except (OSError, ValueError, TypeError) as error:
            raise SessionLost(f"the link to the page was lost: {error!r}") from error

    def close(self) -> None:
        """Hangs up; whoever waits is told. May be called twice, from any thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _message(self, kind: int, max_bytes: int) -> UInt8Array:
        """Returns the next message of a kind, unmasked; a view into the buffer."""
        if len(self._buffer) < max_bytes:
            self._buffer = bytearray(max_bytes)
        length, expected = 0, kind
        is_final = False
        while not is_final:
            is_last, came, size, mask = self._read_head()
            if came in (_PING, _PONG, _CLOSE) and size <= _MAX_CONTROL_BYTES:
                self._into(bytearray(size), 0, size)
                if came == _CLOSE:
                    raise ConnectionError("the page closed it")
                continue
            if came != expected or length + size > max_bytes:
                raise ValueError(f"a message of kind {came} and {length + size} bytes")
            self._into(self._buffer, length, size)
            _unmask(np.frombuffer(self._buffer, np.uint8, size, length), mask)
            length += size
            is_final, expected = is_last, _CONTINUED
        return np.frombuffer(self._buffer, np.uint8, length)

    def _read_head(self) -> tuple[bool, int, int, bytes]:
        first, second = self._into(bytearray(2), 0, 2)
        size = second & _LENGTH
        if size >= 126:
            form = ">H" if size == 126 else ">Q"
            wide = struct.calcsize(form)
            (size,) = struct.unpack(form, self._into(bytearray(wide), 0, wide))
        if not second & _MASKED:
            raise ValueError("a message that is not masked")
        return bool(first & _FINAL), first & 0x0F, size, bytes(self._into(bytearray(4), 0, 4))

    def _into(self, buffer: bytearray, start: int, size: int) -> bytearray:
        with memoryview(buffer) as view:
            at, end = start, start + size
            while at < end:
                left_s = self._deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._sock.settimeout(left_s)
                count = self._sock.recv_into(view[at:end])
                if count == 0:
                    raise ConnectionError("the page hung up")
                at += count
        return buffer

    def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((_FINAL | kind,))
        if size < 126:
            head += bytes((size,))
        elif size < 1 << 16:
            head += struct.pack(">BH", 126, size)
        else:
            head += struct.pack(">BQ", 127, size)
        self._sock.settimeout(max(1e-3, self._deadline_s - time.monotonic()))
        self._sock.sendall(head + payload)


def _unmask(data: UInt8Array, mask: bytes) -> None:
    """Takes a WebSocket's mask off, in place."""
    whole = len(data) // 8 * 8
    if mask != b"\0\0\0\0":
        words = data[:whole].view(np.uint64)
        np.bitwise_xor(words, np.frombuffer(mask * 2, np.uint64)[0], out=words)
        rest = data[whole:]
        rest ^= np.frombuffer(mask * 2, np.uint8)[: len(rest)]
