"""A headless Chromium on any page, and what a person can see and press there."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from raygym.core import UInt8Array
from raygym.runtimes.browser import Browser
from tests.support.loop_thread import LoopThread

TIMEOUT_S = 90.0
TILE = "[...raygymWall.tiles.values()].find((tile) => tile.row.slot === {})"
"""A slot of the wall, in its page."""
_KEYS = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "")}


class PageBrowser(Browser):
    """Chromium without any screen; the page need not say anything."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._first_message.set_result(None)

    def _flags(self) -> list[str]:
        screen = f"--screen-info={{{self._size_px[0]}x{self._size_px[1]}}}"
        return [*super()._flags(), "--headless=new", screen]


class OpenPage:
    """One page in it."""

    def __init__(self, loop: LoopThread, browser: Browser, scratch: Path) -> None:
        self._loop = loop
        self.browser = browser
        self.downloads = scratch / "downloads"

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a CDP command to the page."""
        return self._loop.run(self.browser.call(method, params), timeout_s=TIMEOUT_S)

    def evaluate(self, expression: str) -> Any:
        """Evaluates JavaScript in the page."""
        return self._loop.run(self.browser.evaluate(expression), timeout_s=TIMEOUT_S)

    def wait_for(self, expression: str, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Waits until an expression is true in the page; returns its value."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline_s, f"never true: {expression}"
            time.sleep(0.05)
        return value

    def press(self, key: str, *, modifiers: int = 0) -> None:
        """Presses and releases a key: ``ArrowLeft``, ``Enter``, ``f``; 8 is Shift."""
        code, number, text = _KEYS.get(key, (key, 0, key if len(key) == 1 else ""))
        said = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **said)
        self.call("Input.dispatchKeyEvent", type="keyUp", **said)

    def type_text(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Clicks the middle of an element."""
        x, y = self.evaluate(
            f"(() => {{ const r = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def prefer(self, scheme: str) -> None:
        """Lets the system prefer ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def keep_downloads(self) -> None:
        """Lets the page save files into ``downloads``."""
        self.downloads.mkdir(exist_ok=True)
        where = str(self.downloads)
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=where)

    def downloaded(self, count: int) -> list[Path]:
        """Waits for so many saved files; returns them, oldest first."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            files = [p for p in self.downloads.glob("*.png") if p.stat().st_size]
            if len(files) >= count:
                return sorted(files, key=lambda path: path.stat().st_mtime_ns)
            assert time.monotonic() < deadline_s, f"only {files} came"
            time.sleep(0.05)

    def screenshot(self) -> bytes:
        """Returns what the page shows, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def picture(self) -> UInt8Array:
        """Returns what the page shows, uint8[H, W, 3]."""
        bgr = cv2.imdecode(np.frombuffer(self.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        return np.asarray(bgr[:, :, ::-1], np.uint8)


@contextlib.contextmanager
def page_at(
    url: str, scratch: Path, *, size_px: tuple[int, int] = (1280, 860)
) -> Iterator[OpenPage]:
    """Opens a page; closes the browser with the block."""
    loop = LoopThread()

    async def start() -> Browser:
        browser = PageBrowser(scratch, environment={}, size_px=size_px, on_message=lambda _: None)
        try:
            await browser.start(url, timeout_s=TIMEOUT_S)
        except BaseException:
            await browser.close()
            raise
        return browser

    try:
        browser = loop.run(start(), timeout_s=2 * TIMEOUT_S)
        try:
            yield OpenPage(loop, browser, scratch)
        finally:
            loop.run(browser.close())
    finally:
        loop.close()


def is_moving(page: OpenPage, slot: int) -> None:
    """Waits until the picture of a slot of the wall was replaced by a newer one."""
    tile = TILE.format(slot)
    before = page.wait_for(f"{tile}?.taken_ms")
    page.wait_for(f"{tile}.taken_ms > {before} + 400")
