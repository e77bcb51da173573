"""Noticing that a peer hung up on a socket that another process reads."""

from __future__ import annotations

import asyncio
import select
import socket
from types import TracebackType


class HangUp(asyncio.Event):
    """Set once the peer of a socket hangs up; what the peer sends wakes nobody up.

    Belongs to the event loop that it is entered in.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._poll = select.epoll()

    def __enter__(self) -> HangUp:
        self._poll.register(self._sock.fileno(), select.EPOLLRDHUP)
        # An epoll can be waited for like any file: it is readable once one of its files is.
        asyncio.get_running_loop().add_reader(self._poll.fileno(), self._on_event)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._poll.fileno())
        self._poll.close()

    def _on_event(self) -> None:
        asyncio.get_running_loop().remove_reader(self._poll.fileno())
        self.set()
