"""The reward channel's sockets: WebSockets around ``RewarderServer``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed

from raygym.core import Endpoint
from raygym.wire.rewarder_server import Close, Output, ResetRequested, RewarderServer, Send

log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 1 << 20
_MAX_QUEUED = 10_000
_CLOSE_TIMEOUT_S = 1.0
_UNSUPPORTED_DATA = 1003

# Strangers that connect and vanish are everyday life here, not errors.
_websockets_log = logging.getLogger("raygym.websockets")
_websockets_log.setLevel(logging.CRITICAL)


class RewardChannel:
    """Listens for clients of the reward channel. Belongs to the event loop that starts it.

    Args:
        server: What the clients share.
        directory: Where ``rewarder.sock`` is made if no host is given.
        on_reset: Called with each reset that a client asks for.
        host: Address to listen on over TCP; None for the unix socket.
        port: TCP port; 0 takes a free one.
        unix_time: Unix time in seconds.
    """

    def __init__(
        self,
        server: RewarderServer,
        directory: Path,
        on_reset: Callable[[ResetRequested], None],
        *,
        host: str | None = None,
        port: int = 0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._directory = directory
        self._on_reset = on_reset
        self._host = host
        self._port = port
        self._unix_time = unix_time
        self._ids = itertools.count()
        self._queues: dict[int, asyncio.Queue[Send | Close]] = {}
        self._listener: Server | None = None
        self.last_sent_s = 0.0
        """When something was last sent, in seconds of the event loop's clock."""

    async def start(self) -> Endpoint:
        """Starts listening."""
        settings: dict[str, Any] = {
            "compression": None,
            "ping_interval": None,
            "max_size": _MAX_MESSAGE_BYTES,
            "close_timeout": _CLOSE_TIMEOUT_S,
            "logger": _websockets_log,
        }
        if self._host is None:
            path = self._directory / "rewarder.sock"
            self._listener = await unix_serve(self._serve, str(path), **settings)
            return Endpoint(path=str(path))
        self._listener = await serve(self._serve, self._host, self._port, **settings)
        port = next(iter(self._listener.sockets)).getsockname()[1]
        return Endpoint(host=self._host, port=port)

    def send(self, outputs: Iterable[Output]) -> None:
        """Queues what the server's state has to say; never waits for a client."""
        for output in outputs:
            if isinstance(output, ResetRequested):
                self._on_reset(output)
                continue
            queue = self._queues.get(output.connection)
            if queue is None:
                continue
            if queue.full():
                log.warning("rewarder.too_slow connection=%d", output.connection)
                self._server.disconnect(output.connection)
                while not queue.empty():
                    queue.get_nowait()
                output = Close(output.connection, "too slow: messages piled up")
            queue.put_nowait(output)
            self.last_sent_s = asyncio.get_running_loop().time()

    async def close(self, reason: str) -> None:
        """Says why, closes every connection and stops listening. May be called twice."""
        if self._listener is None:
            return
        self.send(self._server.close_all(reason, now_s=self._unix_time()))
        deadline_s = asyncio.get_running_loop().time() + _CLOSE_TIMEOUT_S
        while self._queues and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.01)
        self._listener.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listener.wait_closed(), 2 * _CLOSE_TIMEOUT_S)
        self._listener = None
        if self._host is None:
            (self._directory / "rewarder.sock").unlink(missing_ok=True)

    async def _serve(self, websocket: ServerConnection) -> None:
        connection = next(self._ids)
        queue = self._queues[connection] = asyncio.Queue(_MAX_QUEUED)
        self.send(
            self._server.connect(
                connection,
                authorization=_header(websocket, "authorization"),
                is_observer=(_header(websocket, "openai-observer") or "").lower() == "true",
                now_s=self._unix_time(),
            )
        )
        writing = asyncio.create_task(self._write(websocket, queue))
        try:
            async for text in websocket:
                if not isinstance(text, str):
                    await websocket.close(_UNSUPPORTED_DATA, "only text frames are understood")
                    break
                self.send(self._server.receive(connection, text, now_s=self._unix_time()))
        except ConnectionClosed:
            pass
        finally:
            self._server.disconnect(connection)
            del self._queues[connection]
            writing.cancel()
            await asyncio.wait([writing])

    async def _write(self, websocket: ServerConnection, queue: asyncio.Queue[Send | Close]) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                output = await queue.get()
                if isinstance(output, Close):
                    await websocket.close(output.code, output.reason)
                    return
                await websocket.send(output.text)


def _header(websocket: ServerConnection, name: str) -> str | None:
    """Returns what the client said under that name; several are joined, as RFC 9110 5.3 has it."""
    found = [] if websocket.request is None else websocket.request.headers.get_all(name)
    return ", ".join(found) if found else None
