"""The wall's HTTP server: its page, a stream of pictures, and the way to a screen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from raygym.errors import ConfigError
from raygym.wall import novnc
from raygym.wall.access import COOKIE, Access
from raygym.wall.feed import Feed, Page
from raygym.wall.hub import Door
from raygym.wall.screens import Line
from raygym.wall.tiles import ScreenPlace
from raygym.wall.viewing import view

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
MOST_SCREENS = 16
"""Screens that are looked at in full at once, by all pages together."""
MOST_PAGES = 32
_MOST_KEYS = 4096
_MESSAGE_BYTES = 1 << 18
_PING_S = 20.0
_WRONG_TOKEN_S = 1.0
"""How long whoever gives a wrong token waits; one at a time."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Screens(Protocol):
    """Reaches the screens of remotes."""

    async def dial(self, place: ScreenPlace) -> Line:
        """Connects to a screen; raises RemoteUnreachable."""
        ...


@dataclass(frozen=True, kw_only=True)
class WallConfig:
    """Where the wall listens."""

    access: Access
    """Who may see it, and on which interface."""
    port: int = 0
    """TCP port; 0 takes a free one."""
    drive_idle_s: float = 300.0
    """A person who drives and presses nothing for so long drives no more."""


class WallServer:
    """Serves the wall. Belongs to the event loop that starts it.

    Args:
        door: The hub.
        screens: The way to the remotes.
        config: Where it listens.
    """

    def __init__(self, door: Door, screens: Screens, config: WallConfig) -> None:
        self._door = door
        self._screens = screens
        self._config = config
        self._access = config.access
        self._feed = Feed(door)
        self._open_screens = 0
        self._pages = 0
        self._guessing = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._following: asyncio.Task[None] | None = None
        self.url = ""
        """Where a browser finds it, without the token; empty before the start."""

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ConfigError: The port is taken, or the host is not this machine's.
        """
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._index)
        app.router.add_get("/about", self._about)
        app.router.add_get("/live", self._live)
        app.router.add_get("/screen", self._screen)
        app.router.add_post("/take-over", self._take_over)
        app.router.add_static("/page", PAGE)
        if novnc.is_there():
            app.router.add_static("/novnc", novnc.folder())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._access.host, self._config.port
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"--host {host} --port {port}: cannot listen there: {error.strerror}"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._runner.addresses[0][1]}/"
        self._following = asyncio.create_task(self._feed.run())

    async def stop(self) -> None:
        """Ends it, and every connection; may be called twice."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets nobody in who may not look, whatever is asked for."""
        if not self._access.is_ours(request.host, request.headers.get("Origin")):
            raise web.HTTPForbidden(text="raygym: this was not asked by the wall's own page\n")
        authorization = request.headers.get("Authorization", "")
        is_in = self._access.may_look(request.cookies, authorization)
        if not is_in and not (request.path == "/" and "token" in request.query):
            raise web.HTTPUnauthorized(
                text="raygym: open the address that `raygym watch` printed, with its token\n"
            )
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _index(self, request: web.Request) -> web.StreamResponse:
        given = request.query.get("token")
        if given is None:
            return web.FileResponse(PAGE / "index.html")
        if not self._access.is_right_token(given) and not self._access.may_look(
            request.cookies, ""
        ):
            await self._punish()
            raise web.HTTPUnauthorized(text="raygym: this token opens nothing\n")
        # The token leaves the address, so that no history or screenshot keeps it.
        response = web.Response(status=302, headers={"Location": "/"})
        response.set_cookie(COOKIE, self._access.session, httponly=True, samesite="Strict")
        return response

    async def _about(self, request: web.Request) -> web.StreamResponse:
        """Says what this wall can do."""
        del request
        has_novnc = novnc.is_there()
        return web.json_response(
            {
                "can_drive": self._access.can_drive,
                "has_novnc": has_novnc,
                "install": "" if has_novnc else novnc.COMMAND,
                "drive_idle_s": self._config.drive_idle_s,
            }
        )

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Streams rows and pictures; a page acknowledges each message before the next."""
        if self._pages >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"raygym: {MOST_PAGES} pages look already\n")
        socket = web.WebSocketResponse(
            heartbeat=_PING_S, max_msg_size=_MESSAGE_BYTES, compress=False
        )
        await socket.prepare(request)
        page, may_send = Page(), asyncio.Event()
        may_send.set()
        sending = asyncio.create_task(self._send(socket, page, may_send))
        self._pages += 1
        self._feed.add(page)
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT or not _note(page, message.data, may_send):
                    break
        finally:
            self._pages -= 1
            self._feed.remove(page)
            sending.cancel()
            await asyncio.wait([sending])
        await socket.close()
        return socket

    async def _send(
        self, socket: web.WebSocketResponse, page: Page, may_send: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await may_send.wait()
                message = self._feed.message_for(page)
                if message is None:
                    await self._feed.wait()
                    continue
                may_send.clear()
                await socket.send_bytes(message)

    async def _screen(self, request: web.Request) -> web.StreamResponse:
        """Joins a page to a screen, to look or, with a ticket, to drive."""
        key = request.query.get("key", "")
        ticket = request.query.get("ticket")
        may_drive = ticket is not None and self._access.is_right_ticket(ticket, key)
        if ticket is not None and not may_drive:
            raise web.HTTPForbidden(text="raygym: this ticket was used, or is too old\n")
        place = await asyncio.to_thread(self._door.screen, key)
        if place is None:
            raise web.HTTPNotFound(text=f"raygym: {key} has no screen to look at\n")
        if self._open_screens >= MOST_SCREENS:
            raise web.HTTPServiceUnavailable(
                text=f"raygym: {MOST_SCREENS} screens are looked at already\n"
            )
        protocols = ("binary",) if request.headers.get("Sec-WebSocket-Protocol") else ()
        socket = web.WebSocketResponse(
            heartbeat=_PING_S, max_msg_size=1 << 22, compress=False, protocols=protocols
        )
        await socket.prepare(request)
        self._open_screens += 1
        if may_drive:
            log.warning("wall.take_over key=%s remote_id=%s", key, place.remote_id)
        try:
            idle_s = self._config.drive_idle_s
            await view(self._screens, place, socket, drive_idle_s=idle_s if may_drive else None)
        finally:
            self._open_screens -= 1
        return socket

    async def _take_over(self, request: web.Request) -> web.StreamResponse:
        """Gives a ticket to whoever knows the token."""
        if not self._access.can_drive:
            raise web.HTTPForbidden(text="raygym: this wall was started without --take-over\n")
        try:
            said = await request.json()
            token, key = str(said["token"]), str(said["key"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="raygym: expected a token and a key\n") from error
        ticket = self._access.ticket(token, key)
        if ticket is None:
            log.warning("wall.wrong_token key=%s from=%s", key, request.remote)
            await self._punish()
            raise web.HTTPForbidden(text="raygym: this is not the token for driving\n")
        return web.json_response({"ticket": ticket})

    async def _punish(self) -> None:
        async with self._guessing:
            await asyncio.sleep(_WRONG_TOKEN_S)


def _note(page: Page, text: str, may_send: asyncio.Event) -> bool:
    """Takes in what a page said; returns whether it made sense."""
    try:
        said: dict[str, Any] = json.loads(text)
        if said.get("got"):
            may_send.set()
        if "visible" in said:
            page.visible = frozenset(str(key) for key in said["visible"][:_MOST_KEYS])
            page.large = None if said.get("large") is None else str(said["large"])
    except (ValueError, TypeError, AttributeError):
        return False
    return True
