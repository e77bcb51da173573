"""What the page is told about a game."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from raygym.catalog import Game
from raygym.runtimes.page_server import PageServer
from raygym.runtimes.page_task import SEED_MAX


def play_order(game: Game, server: PageServer, *, episode: int, seed: int) -> dict[str, Any]:
    """Returns what the page needs to know to play.

    Args:
        game: The game; its folder is served under its EnvId.
        server: What the page loads from.
        episode: Comes back with all that the page says of it.
        seed: Of the game's own generator.
    """
    spec = game.spec
    return {
        "episode": episode,
        "env_id": spec.id,
        "title": spec.title,
        "swf": server.url(f"{spec.id}/{quote(game.swf.name)}"),
        "width": spec.region.width,
        "height": spec.region.height,
        "fps": spec.fps,
        "max_episode_s": spec.max_episode_s,
        "keys": list(dict.fromkeys(key for action in spec.actions for key in action)),
        "start_keys": list(game.start_keys),
        "score": asdict(game.score),
        "reset": game.reset,
        "state": game.state,
        "seed": seed % (SEED_MAX + 1),
    }
