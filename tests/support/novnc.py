"""noVNC, the viewer for browsers, in a headless Chromium that looks at a remote."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from raygym.core import UInt8Array
from raygym.runtimes.browser import Browser
from raygym.wall.novnc import install
from tests.support.loop_thread import LoopThread

SIZE_PX = (1024, 768)
TIMEOUT_S = 90.0
_PAGE = """<!doctype html><meta charset="utf-8"><title>noVNC</title>
<body style="margin: 0"><div id="screen" style="width: 1024px; height: 768px"></div>
<script type="module">
  import RFB from "./core/rfb.js";
  const rfb = new RFB(document.getElementById("screen"), `ws://${location.host}/vnc`,
    {credentials: {password: decodeURIComponent(location.hash.slice(1))}});
  const tell = (text) => window.raygymReport
    ? window.raygymReport(text) : setTimeout(() => tell(text), 20);
  window.rfb = rfb;
  rfb.addEventListener("connect", () => tell("connected"));
  rfb.addEventListener("disconnect", (event) => tell(`lost ${event.detail.clean}`));
  rfb.addEventListener("securityfailure", (event) => tell(`refused ${event.detail.reason}`));
  tell("loaded");
</script>"""
_KINDS = {".html": "text/html", ".js": "text/javascript"}


class HeadlessBrowser(Browser):
    """Chromium without any screen."""

    def _flags(self) -> list[str]:
        screen = f"--screen-info={{{SIZE_PX[0]}x{SIZE_PX[1]}}}"
        return [*super()._flags(), "--headless=new", screen]


class NoVnc:
    """A page with noVNC that looks at ``vnc.sock``, and what can be seen and pressed there."""

    def __init__(self, loop: LoopThread, browser: Browser, told: list[str]) -> None:
        self._loop = loop
        self._browser = browser
        self.told = told

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a CDP command to the page."""
        return self._loop.run(self._browser.call(method, params), timeout_s=TIMEOUT_S)

    def evaluate(self, expression: str) -> Any:
        """Evaluates JavaScript in the page."""
        return self._loop.run(self._browser.evaluate(expression), timeout_s=TIMEOUT_S)

    def picture(self) -> UInt8Array:
        """Returns what the page shows, uint8[768, 1024, 3]."""
        clip = {"x": 0, "y": 0, "width": SIZE_PX[0], "height": SIZE_PX[1], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip)["data"]
        bgr = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        return np.asarray(bgr[:, :, ::-1], np.uint8)

    def key(self, name: str, *, is_down: bool) -> None:
        """Presses or releases a key of the browser's: ``ArrowLeft``."""
        kind = "keyDown" if is_down else "keyUp"
        self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)


@contextlib.contextmanager
def looking_at(directory: Path, scratch: Path) -> Iterator[NoVnc]:
    """Opens noVNC on the remote in ``directory``; closes it with the block."""
    home = install()
    loop = LoopThread()
    told: list[str] = []
    connected = asyncio.Event()

    def on_message(text: str) -> None:
        told.append(text)
        if text != "loaded":
            connected.set()

    async def start() -> tuple[Any, Browser]:
        server = await serve(
            lambda websocket: _relay(websocket, directory / "vnc.sock"),
            "127.0.0.1",
            0,
            process_request=lambda _, request: _file(home, request),
            select_subprotocol=lambda _, offered: Subprotocol("binary") if offered else None,
            compression=None,
        )
        browser = HeadlessBrowser(scratch, environment={}, size_px=SIZE_PX, on_message=on_message)
        port = server.sockets[0].getsockname()[1]
        password = (directory / "password").read_text()
        try:
            await browser.start(
                f"http://127.0.0.1:{port}/page.html#{password}", timeout_s=TIMEOUT_S
            )
            async with asyncio.timeout(TIMEOUT_S):
                await connected.wait()
            assert told[-1] == "connected", told
        except BaseException:
            await browser.close()
            server.close()
            raise
        return server, browser

    async def stop(server: Any, browser: Browser) -> None:
        await browser.close()
        server.close()
        await server.wait_closed()

    try:
        server, browser = loop.run(start(), timeout_s=3 * TIMEOUT_S)
        try:
            yield NoVnc(loop, browser, told)
        finally:
            loop.run(stop(server, browser))
    finally:
        loop.close()


def _file(home: Path, request: Request) -> Response | None:
    """Answers a request for a file; None lets a WebSocket through."""
    path = request.path.partition("?")[0]
    if path == "/vnc":
        return None
    file = (home / path.lstrip("/")).resolve()
    if path == "/page.html":
        body = _PAGE.encode()
    elif file.is_relative_to(home.resolve()) and file.is_file():
        body = file.read_bytes()
    else:
        return Response(404, "Not Found", Headers({"Content-Length": "0"}), b"")
    kind = _KINDS.get(Path(path).suffix, "application/octet-stream")
    headers = Headers(
        {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    )
    return Response(HTTPStatus.OK, "OK", headers, body)


async def _relay(websocket: ServerConnection, path: Path) -> None:
    """What websockify does: bytes of a WebSocket to a socket and back."""
    reader, writer = await asyncio.open_unix_connection(path)

    async def up() -> None:
        async for data in websocket:
            writer.write(data if isinstance(data, bytes) else data.encode())
            await writer.drain()

    async def down() -> None:
        while data := await reader.read(1 << 16):
            await websocket.send(data)

    jobs = [asyncio.create_task(up()), asyncio.create_task(down())]
    try:
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        writer.close()
