"""The web server that a remote's own browser loads its page, and what plays in it, from."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

logger = logging.getLogger(__name__)

SHARED_PAGE = Path(__file__).parent / "shared_page"
"""Scripts for the pages of several Runtimes."""

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".swf": "application/x-shockwave-flash",
    ".png": "image/png",
    ".gif": "image/gif",
}
_LINK = "link"
_WEBSOCKET_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST_TIMEOUT_S = 10.0
_REQUEST_MAX_BYTES = 16384
_SECURITY = ("X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer")
_REACHES_ONLY_THIS_SERVER = (
    "default-src 'none'; connect-src 'self'; frame-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:"
)


class PageServer:
    """Serves some folders over HTTP at a loopback port that the system chooses.

    Every address starts with a random token, so that nobody else on the machine reads them.

    Args:
        folders: The folder behind the first part of each path; files outside are not served,
            whatever links say.
        on_link: Gets the connected socket of each WebSocket that a page opens at ``link``, in
            the event loop, and owns it then; None refuses them.
        scripts: Where scripts may come from besides this server, as a Content-Security-Policy
            has it. Whatever they are, a page reaches nothing but this server.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        on_link: Callable[[socket.socket], None] | None = None,
        scripts: str = "",
    ) -> None:
        self._policy = f"{_REACHES_ONLY_THIS_SERVER}; script-src 'self' {scripts}".rstrip()
        self._on_link = on_link
        self._folders = {name: folder.resolve() for name, folder in folders.items()}
        self._token = secrets.token_urlsafe(16)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Starts to listen."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_REQUEST_MAX_BYTES
        )

    def url(self, path: str) -> str:
        """Returns the address of ``folder/file``."""
        if self._server is None:
            raise RuntimeError("url() before start()")
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/{self._token}/{path}"

    async def close(self) -> None:
        """Stops to listen. May be called twice."""
        if self._server is not None:
            self._server.close()

    def find(self, target: str) -> Path | None:
        """Returns the file that a request's target names, or None for anything else."""
        token, _, rest = unquote(urlsplit(target).path).lstrip("/").partition("/")
        name, _, path = rest.partition("/")
        folder = self._folders.get(name)
        if folder is None or not secrets.compare_digest(token.encode(), self._token.encode()):
            return None
        try:
            file = (folder / path).resolve()
            return file if file.is_relative_to(folder) and file.is_file() else None
        except (OSError, ValueError):
            return None

    def _is_link(self, target: str) -> bool:
        token, _, rest = target.lstrip("/").partition("/")
        return rest == _LINK and secrets.compare_digest(token.encode(), self._token.encode())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                request = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                if self._on_link is not None and self._is_link(target):
                    self._on_link(await _upgrade(request, writer))
                    return
                file = self.find(target) if method in ("GET", "HEAD") else None
                await self._answer(writer, file, has_body=method != "HEAD")
        except (
            TimeoutError,
            ValueError,
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            logger.debug("page_server.dropped cause=%r", error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, writer: asyncio.StreamWriter, file: Path | None, *, has_body: bool
    ) -> None:
        if file is None:
            head = ["HTTP/1.1 404 Not Found", "Content-Length: 0"]
            body = b""
        else:
            body = await asyncio.to_thread(file.read_bytes)
            head = [
                "HTTP/1.1 200 OK",
                f"Content-Type: {_KINDS.get(file.suffix, 'application/octet-stream')}",
                f"Content-Length: {len(body)}",
                "Cache-Control: public, max-age=86400",
                f"Content-Security-Policy: {self._policy}",
                *_SECURITY,
            ]
        writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode("latin-1"))
        if has_body:
            writer.write(body)
        await writer.drain()


async def _upgrade(request: bytes, writer: asyncio.StreamWriter) -> socket.socket:
    """Agrees to a WebSocket; returns a socket of its own for it, and leaves the old to be closed.

    Raises:
        ValueError: It is no such request.
    """
    heads = {}
    for line in request.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        heads[name.strip().lower()] = value.strip()
    key = heads.get("sec-websocket-key")
    if key is None:
        raise ValueError("a link must be a WebSocket")
    digest = hashlib.sha1((key + _WEBSOCKET_KEY).encode("latin-1"), usedforsecurity=False).digest()
    head = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    )
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1"))
    await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    return socket.socket(fileno=os.dup(sock.fileno()))
