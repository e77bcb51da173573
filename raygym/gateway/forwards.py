"""TCP ports in front of Remotes, for clients that can't reach a Remote's own sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from raygym.core import Endpoint
from raygym.errors import RemoteFailedToStart

_CHUNK_BYTES = 1 << 16
_CONNECT_TIMEOUT_S = 5.0
_SILENT_AFTER_S = 10
_PROBE_EVERY_S = 5
_PROBES = 3
_UNANSWERED_MS = 30_000


class Forward:
    """One port; every connection to it goes on to an Endpoint, byte for byte.

    A peer that vanished without a word is noticed within half a minute, so that an open
    connection is a sign of life.

    Args:
        endpoint: Where connections go on to.
        host: Interface of the port.
        ports: Those to choose from; none takes any that is free.
    """

    def __init__(self, endpoint: Endpoint, *, host: str, ports: Sequence[int] = ()) -> None:
        self._endpoint = endpoint
        self._host = host
        self._ports = ports
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.port = 0
        """The port, once it was started."""
        self.opened = 0
        """How many connections were made so far."""
        self.sent_bytes = 0
        """Bytes from clients to the Remote."""
        self.received_bytes = 0
        """Bytes from the Remote to clients."""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._tasks)

    async def start(self) -> int:
        """Opens the port and returns it.

        Raises:
            RemoteFailedToStart: None of the ports is free.
        """
        for port in self._ports or (0,):
            try:
                await self._listen(port)
            except OSError as error:
                cause = error
                continue
            return self.port
        tried = f"{self._ports[0]} to {self._ports[-1]}" if self._ports else "any"
        raise RemoteFailedToStart(
            f"no port of {self._host} ({tried}) is free to reach {self._endpoint}: "
            f"{cause.strerror}; give the gateway more ports"
        ) from cause

    async def _listen(self, port: int) -> None:
        # In one step asyncio would lose the server where whoever waits for it is cancelled.
        server = await asyncio.start_server(self._accept, self._host, port, start_serving=False)
        try:
            await server.start_serving()
        except BaseException:
            server.close()
            raise
        self._server = server
        self.port = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Closes the port and every connection. May be called twice."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._tasks if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A transport lets go of its socket in the loop's next round.
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.opened += 1
        try:
            # Nobody waits for this task but ``close``, and asyncio logs one that was cancelled.
            with (
                contextlib.closing(writer),
                contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError),
            ):
                watch(writer.get_extra_info("socket"))
                await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            far_reader, far_writer = await dial(self._endpoint)
        with contextlib.closing(far_writer):
            pumps = [
                asyncio.create_task(self._send(reader, far_writer)),
                asyncio.create_task(self._receive(far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            self.sent_bytes += len(data)
            writer.write(data)
            await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            self.received_bytes += len(data)
            writer.write(data)
            await writer.drain()


async def dial(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to an Endpoint."""
    if endpoint.path is not None:
        return await asyncio.open_unix_connection(endpoint.path)
    return await asyncio.open_connection(endpoint.host, endpoint.port)


def watch(peer: socket.socket) -> None:
    """Has the kernel end a connection whose peer has gone without a word."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", _SILENT_AFTER_S),
        ("TCP_KEEPINTVL", _PROBE_EVERY_S),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", _UNANSWERED_MS),
    ):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
