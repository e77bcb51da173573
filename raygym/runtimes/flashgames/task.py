"""Flash games as a Task: each plays in Ruffle, in one Chromium, on one X screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raygym.catalog import Catalog, load_catalog
from raygym.runtimes.flashgames.orders import play_order
from raygym.runtimes.flashgames.ruffle import SCRIPTS, ruffle_dir
from raygym.runtimes.page_server import SHARED_PAGE, PageServer
from raygym.runtimes.page_task import PageTask
from raygym.runtimes.xvnc_screen import XvncScreen

PAGE = Path(__file__).parent / "page"
TIMING_STRIP_PX = (18, 752)


class FlashTask(PageTask):
    """The flashgames runtime's Task.

    Args:
        screen: Where the browser shows; it must have started before ``start``.
        directory: Private directory of the Remote.
        catalog: The games; None reads the built-in ones and those of RAYGYM_GAMES.
    """

    def __init__(
        self, screen: XvncScreen, *, directory: Path, catalog: Catalog | None = None
    ) -> None:
        catalog = catalog or load_catalog()
        self._games = catalog.games
        server = PageServer(
            {
                "page": PAGE,
                "shared": SHARED_PAGE,
                "ruffle": ruffle_dir(),
                **{env_id: game.swf.parent for env_id, game in self._games.items()},
            },
            scripts=SCRIPTS,
        )
        super().__init__(
            screen,
            directory=directory,
            server=server,
            page="page/play.html",
            env_ids=tuple(self._games),
            screen_px=catalog.runtime(self.runtime).screen_px,
            timing_strip_px=TIMING_STRIP_PX,
        )

    @property
    def runtime(self) -> str:
        """Name of the Runtime."""
        return "flashgames"

    def order(self, env_id: str, *, episode: int, seed: int) -> dict[str, Any]:
        """Returns what the page is told to begin an episode."""
        return play_order(self._games[env_id], self._server, episode=episode, seed=seed)

    def takes_seed(self, env_id: str) -> bool:
        """Returns whether the game has a ``reset`` callback; else its SWF is loaded anew."""
        return bool(self._games[env_id].reset)
