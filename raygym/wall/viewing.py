"""One page that looks at one screen, from the greeting to the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from aiohttp import WSMsgType, web

from raygym.errors import ProtocolError, RemoteUnreachable
from raygym.wall.rfb_gate import PageGate, ScreenGreeter
from raygym.wall.screens import Line
from raygym.wall.tiles import ScreenPlace

LOST, IDLE, ASTRAY = 4000, 4001, 4002
"""Codes of a close: the screen is gone; nobody drove for long; the page broke the protocol."""
_GREETING_S = 10.0
_REASON_BYTES = 120


class Dialer(Protocol):
    """Reaches the screens of remotes."""

    async def dial(self, place: ScreenPlace) -> Line:
        """Connects to a screen; raises RemoteUnreachable."""
        ...


async def view(
    dialer: Dialer,
    place: ScreenPlace,
    socket: web.WebSocketResponse,
    *,
    drive_idle_s: float | None,
) -> None:
    """Joins a page's WebSocket to a screen until either ends, and closes both.

    Args:
        dialer: The way there.
        place: Which screen.
        socket: The page's; what it says is filtered.
        drive_idle_s: How long a person who drives may press nothing; None lets nobody drive.
    """
    try:
        line = await dialer.dial(place)
    except RemoteUnreachable as error:
        await _close(socket, LOST, str(error))
        return
    try:
        async with asyncio.timeout(_GREETING_S):
            greeting = await greet(line)
        gate = PageGate(greeting, may_drive=drive_idle_s is not None)
        await _join(line, socket, gate, drive_idle_s)
    except (ProtocolError, TimeoutError) as error:
        await _close(socket, LOST, str(error) or f"{place.remote_id}: its screen says nothing")
    finally:
        await line.close()


async def greet(line: Line) -> bytes:
    """Shakes hands with a screen; returns its size and name, as a page is told them.

    Raises:
        ProtocolError: It closed the line, speaks no RFB, or refuses the password.
    """
    greeter = ScreenGreeter(None if line.password is None else line.password.reveal())
    while greeter.greeting is None:
        data = await line.read()
        if not data:
            raise ProtocolError("the screen closed the line")
        await line.write(greeter.receive_data(data))
    return greeter.greeting


async def _join(
    line: Line, socket: web.WebSocketResponse, gate: PageGate, drive_idle_s: float | None
) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(gate.take_for_page())
    has_greeted = asyncio.Event()
    jobs = [
        asyncio.create_task(_up(line, socket, gate, has_greeted)),
        asyncio.create_task(_down(line, socket, has_greeted)),
    ]
    if drive_idle_s is not None:
        jobs.append(asyncio.create_task(_watch_idle(socket, gate, drive_idle_s)))
    try:
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    await _close(socket, LOST, "the screen is gone")


async def _up(
    line: Line, socket: web.WebSocketResponse, gate: PageGate, has_greeted: asyncio.Event
) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            break
        try:
            gate.receive_data(message.data)
        except ProtocolError as error:
            await _close(socket, ASTRAY, str(error))
            return
        if data := gate.take_for_page():
            await socket.send_bytes(data)
        if gate.has_greeted:
            has_greeted.set()
        if data := gate.take_for_screen():
            await line.write(data)


async def _down(line: Line, socket: web.WebSocketResponse, has_greeted: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        # A bell that rings before would be taken for a part of the greeting.
        async with asyncio.timeout(_GREETING_S):
            await has_greeted.wait()
        while data := await line.read():
            await socket.send_bytes(data)


async def _watch_idle(socket: web.WebSocketResponse, gate: PageGate, idle_s: float) -> None:
    while True:
        gate.has_input = False
        await asyncio.sleep(idle_s)
        if not gate.has_input:
            await _close(socket, IDLE, f"nothing was pressed for {idle_s:g} s")
            return


async def _close(socket: web.WebSocketResponse, code: int, reason: str) -> None:
    """Closes a page's WebSocket unless it is closed; a close frame has room for few words."""
    message = reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
    with contextlib.suppress(ConnectionError):
        await socket.close(code=code, message=message)
