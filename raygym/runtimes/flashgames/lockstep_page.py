"""The browser of a remote in lock-step: one page that waits for orders."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path

from raygym.catalog import Catalog, Game
from raygym.runtimes.browser import Browser, BrowserError, BrowserLoss
from raygym.runtimes.flashgames.orders import play_order
from raygym.runtimes.flashgames.page_link import PageLink
from raygym.runtimes.flashgames.ruffle import SCRIPTS, ruffle_dir
from raygym.runtimes.page_server import SHARED_PAGE, PageServer
from raygym.runtimes.xvnc_screen import XvncScreen

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"

_LINK_TIMEOUT_S = 10.0


class LockstepPage:
    """A page whose time stands still between orders; a lost browser is replaced when needed.

    Owns a browser and the web server that it loads from; the screen is somebody else's.
    Belongs to the event loop that made it, but for ``give_up``, ``loss`` and the links.

    Args:
        screen: Where the browser shows; it must have started before ``start``.
        directory: Private directory of the Remote.
        catalog: The games.
    """

    def __init__(self, screen: XvncScreen, *, directory: Path, catalog: Catalog) -> None:
        self.games = catalog.games
        self._screen = screen
        self._screen_px = catalog.runtime("flashgames").screen_px
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._links: asyncio.Queue[PageLink] = asyncio.Queue()
        self._server = PageServer(
            {
                "page": PAGE,
                "shared": SHARED_PAGE,
                "ruffle": ruffle_dir(),
                **{env_id: game.swf.parent for env_id, game in self.games.items()},
            },
            on_link=self._linked,
            scripts=SCRIPTS,
        )
        self._browser: Browser | None = None
        self._link: PageLink | None = None
        self._episodes = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it belongs to."""
        return self._loop

    @property
    def browser_pid(self) -> int | None:
        """Process id of the browser, which is also its process group; None without one."""
        return None if self._browser is None else self._browser.pid

    @property
    def loss(self) -> BrowserLoss | None:
        """How the browser was lost, or None while all is well."""
        return None if self._browser is None else self._browser.loss

    async def start(self) -> None:
        """Starts the web server and the browser.

        Raises:
            BrowserError: The browser did not start.
            MissingDependency: A program is absent.
        """
        await self._server.start()
        await self.link()

    async def link(self) -> PageLink:
        """Returns the way to the page; starts a fresh browser if the old one was lost.

        Raises:
            BrowserError: The browser did not start.
        """
        if self._link is None or self._browser is None or self._browser.loss is not None:
            await self._close_browser()
            self._link = await self._start_browser()
        return self._link

    def order(self, game: Game, seed: int) -> dict[str, object]:
        """Returns the order that begins an episode."""
        self._episodes += 1
        said = play_order(game, self._server, episode=self._episodes, seed=seed)
        return {"kind": "begin", **said}

    def give_up(self, loss: BrowserLoss) -> None:
        """Counts the browser as lost. May be called from any thread."""
        browser = self._browser
        if browser is not None:
            self._loop.call_soon_threadsafe(browser.give_up, loss)

    async def close(self) -> None:
        """Ends the browser and the web server. May be called twice."""
        await self._close_browser()
        await self._server.close()

    def _linked(self, sock: socket.socket) -> None:
        self._links.put_nowait(PageLink(sock))

    async def _start_browser(self) -> PageLink:
        started_s = time.monotonic()
        browser = self._browser = Browser(
            self._directory,
            environment=self._screen.x_environment,
            size_px=self._screen_px,
            on_message=lambda _: None,
        )
        try:
            await browser.start(self._server.url("page/lockstep.html"))
            async with asyncio.timeout(_LINK_TIMEOUT_S):
                link = await self._links.get()
        except TimeoutError as error:
            browser.give_up(BrowserLoss("browser_hung", "its page opened no link"))
            raise BrowserError(
                f"Chromium (pid {browser.pid}) opened no link within {_LINK_TIMEOUT_S:g} s"
            ) from error
        except BaseException:
            browser.give_up(BrowserLoss("browser_hung", "it did not start"))
            raise
        took_ms = 1e3 * (time.monotonic() - started_s)
        logger.info("browser.started pid=%s took_ms=%.0f", browser.pid, took_ms)
        return link

    async def _close_browser(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._browser is not None:
            await self._browser.close()
        while not self._links.empty():
            self._links.get_nowait().close()
