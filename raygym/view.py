"""A port on loopback in front of a Remote's screen, for VNC viewers that know no unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from raygym.core import Endpoint, Remote
from raygym.errors import ConfigError

_CHUNK_BYTES = 1 << 16
_CONNECT_TIMEOUT_S = 5.0


async def serve_view(remote: Remote, *, port: int = 0, say: Callable[[str], None] = print) -> None:
    """Forwards a port on loopback to a Remote's screen until SIGINT or SIGTERM.

    Args:
        remote: Whose screen.
        port: TCP port; 0 takes a free one.
        say: Told how to look.

    Raises:
        ConfigError: The Remote has no screen, or the port is taken.
    """
    vnc = remote.vnc
    if vnc is None:
        raise ConfigError(f"{remote.id} has no screen to look at")
    try:
        server = await asyncio.start_server(lambda r, w: _forward(vnc, r, w), "127.0.0.1", port)
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot listen there: {error.strerror}") from error
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    host, taken = server.sockets[0].getsockname()[:2]
    say(f"{remote.id}: vncviewer {host}::{taken}")
    if remote.password is not None:
        say(f"password: {remote.password.reveal()}")
    say("Ctrl-C ends it; the remote runs on")
    async with server:
        await done.wait()


async def _forward(
    vnc: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            far_reader, far_writer = await _dial(vnc)
        with contextlib.closing(far_writer):
            pumps = [
                asyncio.create_task(_pump(reader, far_writer)),
                asyncio.create_task(_pump(far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)


async def _dial(vnc: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if vnc.path is not None:
        return await asyncio.open_unix_connection(vnc.path)
    return await asyncio.open_connection(vnc.host, vnc.port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
