"""MiniWoB's tasks in real time: a person, or an agent, clicks and types over VNC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raygym.catalog import Catalog, load_catalog
from raygym.runtimes.browser import Browser
from raygym.runtimes.page_task import PageTask
from raygym.runtimes.wob.pages import RUNTIME, page_server, play_order, prepare
from raygym.runtimes.xvnc_screen import XvncScreen

TIMING_STRIP_PX = (18, 752)


class WobTask(PageTask):
    """The wob runtime's Task.

    At the start of an episode it tells the instruction, as a text and in the info of a reward
    of 0. The reward comes with the end, scaled down by the time that was taken; an episode
    that times out ends with -1.

    Args:
        screen: Where the browser shows; it must have started before ``start``.
        directory: Private directory of the Remote.
        catalog: What it can play; None reads the built-in one.

    Raises:
        MissingDependency: MiniWoB was not installed.
    """

    def __init__(
        self, screen: XvncScreen, *, directory: Path, catalog: Catalog | None = None
    ) -> None:
        catalog = catalog or load_catalog()
        self._specs = {spec.id: spec for spec in catalog.envs.values() if spec.runtime == RUNTIME}
        super().__init__(
            screen,
            directory=directory,
            server=page_server(),
            page="page/wob.html",
            env_ids=tuple(self._specs),
            screen_px=catalog.runtime(RUNTIME).screen_px,
            timing_strip_px=TIMING_STRIP_PX,
        )

    @property
    def runtime(self) -> str:
        """Name of the Runtime."""
        return RUNTIME

    def order(self, env_id: str, *, episode: int, seed: int) -> dict[str, Any]:
        """Returns what the page is told to begin an episode."""
        return play_order(self._specs[env_id], self._server, episode=episode, seed=seed)

    def takes_seed(self, env_id: str) -> bool:  # noqa: ARG002
        """Returns True: each task does."""
        return True

    async def prepare(self, browser: Browser) -> None:
        """Lets our page into each task's document; a task's time is real."""
        await prepare(browser, has_clock=False)
