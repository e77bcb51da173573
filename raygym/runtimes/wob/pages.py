"""What both modes of the wob runtime load, and tell their page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raygym.catalog import EnvSpec
from raygym.runtimes.browser import Browser
from raygym.runtimes.page_server import SHARED_PAGE, PageServer
from raygym.runtimes.page_task import SEED_MAX
from raygym.runtimes.wob.miniwob import pages_dir

RUNTIME = "wob"
PAGE = Path(__file__).parent / "page"

_IN_THE_TASK = (
    "if (window.parent !== window && location.protocol === 'http:') {{ {clock}\n"
    "window.parent.raygym.opened(window); }}"
)


def page_server() -> PageServer:
    """Returns a server, not yet started, of our page and those of MiniWoB.

    Raises:
        MissingDependency: MiniWoB was not installed.
    """
    return PageServer(
        {"page": PAGE, "shared": SHARED_PAGE, "html": pages_dir()},
        # MiniWoB's pages are written so; and its copies of Quill and Raphael use eval.
        scripts="'unsafe-inline' 'unsafe-eval'",
    )


async def prepare(browser: Browser, *, has_clock: bool) -> None:
    """Has each task's document tell our page that it opens, before any script of its own.

    Args:
        browser: Shows our page.
        has_clock: Whether time in that document moves only as our page says.

    Raises:
        BrowserError: The browser refused.
    """
    clock = ""
    if has_clock:
        clock = (SHARED_PAGE / "clock.js").read_text(encoding="utf-8")
        clock += "\nwindow.pageClock = pageClock;"
    await browser.call("Page.enable")
    await browser.call(
        "Page.addScriptToEvaluateOnNewDocument", {"source": _IN_THE_TASK.format(clock=clock)}
    )


def play_order(spec: EnvSpec, server: PageServer, *, episode: int, seed: int) -> dict[str, Any]:
    """Returns what the page needs to know to play.

    Args:
        spec: The task.
        server: What the page loads from.
        episode: Comes back with all that the page says of it.
        seed: Of the task's randomness.
    """
    return {
        "episode": episode,
        "env_id": spec.id,
        "title": spec.title,
        "page": server.url(f"html/miniwob/{spec.page}.html"),
        "fps": spec.fps,
        "seed": seed % (SEED_MAX + 1),
    }
