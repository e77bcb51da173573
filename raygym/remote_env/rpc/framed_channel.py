"""A conversation over a unix socket, each message after its length."""

from __future__ import annotations

import socket
import struct
import time

from raygym.errors import LocalProtocolError, RemoteProtocolError, SessionLost, StepTimeout
from raygym.wire.framing import MAX_MESSAGE_BYTES

_HEAD_BYTES = 4
_BUFFER_BYTES = 65536
_TIMEVAL = struct.Struct("@ll")
_LEAST_WAIT_S = 1e-4


class FramedChannel:
    """A conversation over a connected unix stream socket.

    A request and its answer cost two system calls, if both are small. Not thread-safe.

    Args:
        sock: Connected; it belongs to the channel.
        name: Of the peer, for messages.
        max_message_bytes: Longest message that is sent or taken.
    """

    def __init__(
        self, sock: socket.socket, *, name: str, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        # The kernel's own timeouts save the poll that Python's would cost with every call.
        sock.setblocking(True)
        self._sock: socket.socket | None = sock
        self._name = name
        self._max_message_bytes = max_message_bytes
        self._timeout_s = -1.0
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    @classmethod
    def open(
        cls, path: str, *, timeout_s: float, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> FramedChannel:
        """Connects to a socket.

        Args:
            path: Of the socket; a leading NUL is Linux's abstract namespace.
            timeout_s: Longest wait.
            max_message_bytes: Longest message that is sent or taken.

        Raises:
            OSError: Nothing listens there.
        """
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        try:
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        name = path.replace("\0", "@", 1)
        return cls(sock, name=name, max_message_bytes=max_message_bytes)

    def ask(self, request: bytes, *, timeout_s: float) -> bytes | bytearray:
        """See ``RpcChannel``."""
        sock = self._sock
        if sock is None:
            raise SessionLost(f"{self._name}: the conversation is over; open another")
        length = len(request)
        if length > self._max_message_bytes:
            raise LocalProtocolError(
                f"{self._name}: a request of {length} bytes is longer than the "
                f"{self._max_message_bytes} that it takes; send fewer environments at a time"
            )
        deadline_s = time.monotonic() + timeout_s
        try:
            if timeout_s != self._timeout_s:
                self._wait_at_most(sock, timeout_s)
            self._send(sock, length.to_bytes(_HEAD_BYTES, "little"), request, deadline_s)
            return self._receive(sock, deadline_s)
        # A kernel's timeout shows as EAGAIN.
        except (BlockingIOError, TimeoutError) as error:
            self.close()
            raise StepTimeout(f"{self._name} did not answer within {timeout_s:g} s") from error
        except OSError as error:
            self.close()
            raise SessionLost(f"{self._name} hung up: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See ``RpcChannel``."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _wait_at_most(self, sock: socket.socket, timeout_s: float) -> None:
        seconds = max(timeout_s, _LEAST_WAIT_S)
        value = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._timeout_s = timeout_s

    def _go_on(self, sock: socket.socket, deadline_s: float) -> None:
        """Makes the next wait end at the deadline."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._wait_at_most(sock, left_s)

    def _send(self, sock: socket.socket, head: bytes, body: bytes, deadline_s: float) -> None:
        sent = sock.sendmsg((head, body))
        if sent == len(head) + len(body):
            return
        rest = memoryview(body)[sent - len(head) :] if sent >= len(head) else head[sent:] + body
        while len(rest):
            self._go_on(sock, deadline_s)
            rest = rest[sock.send(rest) :]

    def _receive(self, sock: socket.socket, deadline_s: float) -> bytes | bytearray:
        view = self._view
        count = sock.recv_into(view)
        if count == 0:
            raise ConnectionResetError("the connection ended")
        while count < _HEAD_BYTES:
            count += self._more(sock, view[count:_HEAD_BYTES], deadline_s)
        length = int.from_bytes(view[:_HEAD_BYTES], "little")
        end = _HEAD_BYTES + length
        if length > self._max_message_bytes or count > end:
            raise RemoteProtocolError(
                f"{self._name} sent {count} bytes or more of a message of {length}; at most "
                f"{self._max_message_bytes} are taken. Does it speak raygym.v1 at all?"
            )
        if end <= _BUFFER_BYTES:
            while count < end:
                count += self._more(sock, view[count:end], deadline_s)
            return bytes(view[_HEAD_BYTES:end])
        message = bytearray(length)
        count -= _HEAD_BYTES
        with memoryview(message) as whole:
            whole[:count] = view[_HEAD_BYTES : _HEAD_BYTES + count]
            while count < length:
                count += self._more(sock, whole[count:], deadline_s)
        return message

    def _more(self, sock: socket.socket, view: memoryview, deadline_s: float) -> int:
        """Waits until a view is full; returns how much of it is."""
        self._go_on(sock, deadline_s)
        count = sock.recv_into(view, 0, socket.MSG_WAITALL)
        if count == 0:
            raise ConnectionResetError("the connection ended within a message")
        return count
