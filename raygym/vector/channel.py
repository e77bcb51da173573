"""Whole messages between a process and its children, over a socket pair.

A message is one packet, so half of one is never seen and nobody waits for the rest of it. What
is too long for a packet travels in memory of its own, whose descriptor goes with the packet.
"""

from __future__ import annotations

import contextlib
import os
import socket

from raygym.errors import RemoteProtocolError

_PACKET_BYTES = 32 * 1024
_LONG = b"L"
_SHORT = b"."


class Channel:
    """One end of it.

    Args:
        end: A SOCK_SEQPACKET socket; owned from here on.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray(_PACKET_BYTES + 1)
        self._view = memoryview(self._buffer)
        self.is_closed = False

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Returns this end, which never blocks, and the socket of the other."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return cls(ours), theirs

    def fileno(self) -> int:
        """Returns the socket's descriptor, for poll."""
        return self._socket.fileno()

    def send(self, message: bytes, fds: tuple[int, ...] = ()) -> None:
        """Sends a message, with descriptors for the other end.

        Raises:
            OSError: The other end is gone, or has taken nothing for very long.
        """
        if not fds and len(message) <= _PACKET_BYTES:
            self._socket.sendmsg((_SHORT, message))
            return
        fd = os.memfd_create("raygym-message", os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb") as file:
            file.write(message)
            file.flush()
            socket.send_fds(self._socket, [_LONG], [fd, *fds])

    def recv(self) -> tuple[bytes, tuple[int, ...]] | None:
        """Returns the next message and its descriptors; None if there is none now.

        Raises:
            EOFError: The other end is gone.
            RemoteProtocolError: It sent no whole message.
        """
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into(
                [self._buffer], socket.CMSG_SPACE(4 * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError("the other end is gone") from error
        if size == 0:
            raise EOFError("the other end is gone")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RemoteProtocolError(f"a packet of more than {len(self._buffer)} bytes came")
        if self._buffer[:1] == _SHORT:
            return bytes(self._view[1:size]), ()
        fds = [
            int.from_bytes(data[i : i + 4], "little", signed=True)
            for _, _, data in ancillary
            for i in range(0, len(data), 4)
        ]
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            return file.read(), tuple(fds[1:])

    def close(self) -> None:
        """Closes this end. May be called twice."""
        self.is_closed = True
        with contextlib.suppress(OSError):
            self._socket.close()
