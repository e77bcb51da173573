"""A driver program for tests that kill it: keeps players playing, and says who holds what."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from raygym.errors import RaygymError
from raygym.service.detached import cluster_name
from raygym.service.leased import docker_store
from raygym.service.ray_registry import RayRegistry
from tests.support.chaos_cluster import ADDRESS_FILE
from tests.support.chaos_player import PARTS, Part, Player

ROWS_FILE = "rows.json"
LEASES_FILE = "leases.json"

_ROWS_EVERY_S = 0.2


def main() -> None:
    """Spawns the players, again where one died, until all have stopped of themselves."""
    directory = Path(sys.argv[1])
    address = (directory / ADDRESS_FILE).read_text()
    ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    threading.Thread(target=_tell_rows, args=(directory,), daemon=True).start()
    players = dict(_spawn(part, directory) for part in PARTS)
    while players:
        (ended, *_), _ = ray.wait(list(players), num_returns=1)
        part, _ = players.pop(ended)
        try:
            ray.get(ended)
        except RayError as error:
            print(f"{part.client_id}: {error}", flush=True)
            players.update([_spawn(part, directory)])


def _spawn(part: Part, directory: Path) -> tuple[Any, tuple[Part, Any]]:
    """Returns what comes of a player when it ends, its part, and the actor."""
    leases = json.loads((directory / LEASES_FILE).read_text())
    actor = ray.remote(Player).options(num_cpus=0).remote(part, directory, **leases)
    return actor.play.remote(), (part, actor)


def _tell_rows(directory: Path) -> None:
    """Writes the registry's rows to a file, again and again."""
    registry = RayRegistry(docker_store, cluster=cluster_name())
    path = directory / ROWS_FILE
    part = path.with_suffix(f".{os.getpid()}")
    while True:
        asked_s = time.time()
        try:
            rows = [asdict(row) for row in registry.rows()]
        except RaygymError as error:
            print(f"rows: {error}", flush=True)
        else:
            part.write_text(json.dumps({"asked_s": asked_s, "rows": rows}))
            part.replace(path)
        time.sleep(_ROWS_EVERY_S)


if __name__ == "__main__":
    main()
