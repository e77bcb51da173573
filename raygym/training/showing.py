"""Who looks on while a run plays."""

from __future__ import annotations

from pathlib import Path

from raygym.service.spectators import Show
from raygym.shows import show
from raygym.training.config import TrainConfig
from raygym.training.films import film_openers
from raygym.training.plan import Plan
from raygym.wall.access import Access
from raygym.wall.hub import RayHub
from raygym.wall.screens import RayScreens
from raygym.wall.server import WallConfig
from raygym.wall.serving import WallThread

_LOOPBACK = "127.0.0.1"


def show_of(config: TrainConfig, plan: Plan, logdir: Path) -> Show:
    """Returns what the actors of a run are told of how it is shown.

    Args:
        config: Its settings.
        plan: Its environment.
        logdir: Where its files go; its last part names the run.
    """
    return show(
        config.env,
        run=logdir.absolute().name,
        runtime=plan.spec.runtime,
        mode=plan.mode,
        backend="" if plan.backend.name == "local" else plan.backend.name,
        client_id=config.client_id,
        channels=3 if config.colour else 1,
        opens=film_openers(config.films, plan, logdir),
    )


def open_wall() -> WallThread:
    """Serves the wall of this Ray cluster on a free port of loopback, until it is closed."""
    return WallThread(RayHub(), RayScreens(), WallConfig(access=Access(_LOOPBACK)))
