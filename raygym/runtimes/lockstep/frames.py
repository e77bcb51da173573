"""Reading and writing framed messages, blocking or not; a message too long is skipped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from raygym.runtimes.lockstep.answers import error_response
from raygym.wire.proto import raygym_v1_pb2 as pb

_HEAD_BYTES = 4
_SMALL_BYTES = 65536
_ID_BYTES = 11  # the tag of Request.id, and at most ten bytes of a varint


class FrameTooLong(Exception):
    """A message was too long, and was skipped.

    Args:
        start: Its first bytes.
        length: Its length in bytes.
        max_bytes: What is taken.
    """

    def __init__(self, start: bytes, length: int, max_bytes: int) -> None:
        super().__init__(f"{length} bytes, at most {max_bytes}")
        self.response = error_response(
            _id_of(start),
            pb.Error.RESOURCE_EXHAUSTED,
            f"a request of {length} bytes is longer than the {max_bytes} that this server takes; "
            "send fewer environments at a time",
        )
        """Says so to the client."""


def read_frame(
    sock: socket.socket, max_bytes: int, on_begin: Callable[[], None]
) -> bytes | bytearray | None:
    """Waits for one message on a blocking socket.

    Args:
        sock: To read from.
        max_bytes: Longest message to take.
        on_begin: Called once the message has begun to come.

    Returns:
        The message; None once the peer has hung up.

    Raises:
        FrameTooLong: It was too long.
    """
    head = sock.recv(_HEAD_BYTES, socket.MSG_WAITALL)
    if len(head) < _HEAD_BYTES:
        return None
    on_begin()
    length = int.from_bytes(head, "little")
    if length > max_bytes:
        start = sock.recv(min(length, _ID_BYTES), socket.MSG_WAITALL)
        left, skipped = length - len(start), bytearray(_SMALL_BYTES)
        while left and (count := sock.recv_into(skipped, min(left, _SMALL_BYTES))):
            left -= count
        raise FrameTooLong(start, length, max_bytes)
    if length <= _SMALL_BYTES:
        data = sock.recv(length, socket.MSG_WAITALL) if length else b""
        return data if len(data) == length else None
    return _read_long(sock, length)


def _read_long(sock: socket.socket, length: int) -> bytearray | None:
    # Grows as it comes, so that an announcement alone takes no memory.
    message = bytearray()
    while len(message) < length:
        have = len(message)
        message.extend(bytes(min(length - have, max(have, _SMALL_BYTES))))
        with memoryview(message) as view:
            count = sock.recv_into(view[have:], 0, socket.MSG_WAITALL)
        if have + count < len(message):
            return None
    return message


def write_frame(sock: socket.socket, message: bytes) -> None:
    """Sends one message on a blocking socket."""
    head = len(message).to_bytes(_HEAD_BYTES, "little")
    if len(message) <= _SMALL_BYTES:
        sock.sendall(head + message)
    else:
        sock.sendall(head)
        sock.sendall(message)


async def read_frame_soon(sock: socket.socket, max_bytes: int) -> bytes | None:
    """Like ``read_frame`` on a socket that does not block; the event loop goes on meanwhile."""
    head = await _read_exactly(sock, _HEAD_BYTES)
    if head is None:
        return None
    length = int.from_bytes(head, "little")
    if length <= max_bytes:
        return await _read_exactly(sock, length)
    start = await _read_exactly(sock, min(length, _ID_BYTES)) or b""
    left = length - len(start)
    loop = asyncio.get_running_loop()
    while left and (skipped := await loop.sock_recv(sock, min(left, _SMALL_BYTES))):
        left -= len(skipped)
    raise FrameTooLong(start, length, max_bytes)


async def write_frame_soon(sock: socket.socket, message: bytes) -> None:
    """Like ``write_frame`` on a socket that does not block."""
    head = len(message).to_bytes(_HEAD_BYTES, "little")
    await asyncio.get_running_loop().sock_sendall(sock, head + message)


async def _read_exactly(sock: socket.socket, length: int) -> bytes | None:
    loop = asyncio.get_running_loop()
    parts = []
    while length:
        part = await loop.sock_recv(sock, min(length, 2**20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _id_of(start: bytes) -> int:
    """Returns the id at the start of a serialised Request, or 0 where none can be made out."""
    if start[:1] != b"\x08":
        return 0
    value = 0
    for position, byte in enumerate(start[1:]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value & (2**64 - 1)
    return 0
