"""A screen that a program paints itself: our own RFB server over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raygym.core import Endpoint, UInt8Array
from raygym.errors import ProtocolError
from raygym.wire.encoder import Box
from raygym.wire.rfb_server import ClientReady, KeyEvent, PointerEvent, RfbServer

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_MAX_BACKLOG_BYTES = 8 << 20
_HANDSHAKE_TIMEOUT_S = 10.0


class PaintedScreen:
    """A screen whose pixels come from ``paint`` and whose inputs go to callbacks.

    Belongs to the event loop that starts it.

    Args:
        directory: Where ``vnc.sock`` is made if no host is given.
        width_px: Width.
        height_px: Height.
        password: What VNC clients must know.
        name: Title in a viewer.
        host: Address to listen on over TCP; None for the unix socket.
        port: TCP port; 0 takes a free one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        width_px: int,
        height_px: int,
        password: str,
        name: str = "raygym",
        host: str | None = None,
        port: int = 0,
    ) -> None:
        self._directory = directory
        self._size_px = (width_px, height_px)
        self._password = password
        self._name = name
        self._host = host
        self._port = port
        self._pixels: UInt8Array = np.zeros((height_px, width_px, 3), dtype=np.uint8)
        self._clients: dict[RfbServer, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self.exact: Box | None = None
        """A part that is sent without loss to clients who connect from now on."""
        self.on_key: Callable[[KeyEvent], None] = lambda _: None
        """Called with each key event of any client."""
        self.on_pointer: Callable[[PointerEvent], None] = lambda _: None
        """Called with each pointer event of any client."""

    async def start(self) -> Endpoint:
        """Starts listening."""
        if self._host is None:
            path = self._directory / "vnc.sock"
            self._server = await asyncio.start_unix_server(self._serve, path)
            return Endpoint(path=str(path))
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        return Endpoint(host=self._host, port=self._server.sockets[0].getsockname()[1])

    async def wait_lost(self) -> str:
        """Never returns: this screen is part of the process that owns it."""
        await asyncio.get_running_loop().create_future()
        return "never"

    def clients(self) -> int:
        """Returns how many VNC clients look; those that still shake hands do not count."""
        return len(self._clients)

    def paint(self, pixels: UInt8Array) -> None:
        """Shows uint8[H, W, 3]; each client is sent what changed once it has asked."""
        np.copyto(self._pixels, pixels)
        for server, writer in list(self._clients.items()):
            self._send(server, writer)

    async def close(self) -> None:
        """Closes every connection and the socket. May be called twice."""
        if self._server is not None:
            self._server.close()
        for task in list(self._readers):
            task.cancel()
        if self._readers:
            await asyncio.wait(self._readers, timeout=2.0)
        if self._host is None:
            (self._directory / "vnc.sock").unlink(missing_ok=True)

    def _send(self, server: RfbServer, writer: asyncio.StreamWriter) -> None:
        if writer.transport.get_write_buffer_size() < _MAX_BACKLOG_BYTES:
            server.send_frame(self._pixels)
        data = server.data_to_send()
        if data and not writer.is_closing():
            writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        self._readers.add(task)
        server = RfbServer(
            width=self._size_px[0],
            height=self._size_px[1],
            name=self._name,
            password=self._password,
            exact=self.exact,
        )
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S) as limit:
                writer.write(server.data_to_send())
                while data := await reader.read(_CHUNK_BYTES):
                    for event in server.receive_data(data):
                        if isinstance(event, ClientReady):
                            limit.reschedule(None)
                            self._clients[server] = writer
                        elif isinstance(event, KeyEvent):
                            self.on_key(event)
                        elif isinstance(event, PointerEvent):
                            self.on_pointer(event)
                    self._send(server, writer)
        except ProtocolError as error:
            log.warning("vnc.refused error=%s", error)
            with contextlib.suppress(OSError):
                writer.write(server.data_to_send())
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._clients.pop(server, None)
            self._readers.discard(task)
            writer.close()
