"""The wall with a hundred fake slots: what a page draws, and what that costs; nothing is bounded.

python benchmarks/wall.py [--slots 100] [--seconds 15] [--actors 10]

The slots, the hub and the server are one process of their own, without Ray; the page is a headless
Chromium without a GPU, at a window so tall that all tiles are in view.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from raygym.wall.hub import Hub  # noqa: E402
from raygym.wall.pictures import Pictures, PicturesConfig  # noqa: E402
from tests.support.fake_wall import FakeSlots, painted, playing, record, served, show  # noqa: E402
from tests.support.page_browser import page_at  # noqa: E402

FPS = 10.0
"""Steps a second of each slot; the wall takes two pictures of them."""
WARM_UP_S = 4.0


def cpu_s(pids: set[int]) -> float:
    """Returns the processor time that processes have taken, in seconds."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100.0


def tree(root: int) -> set[int]:
    """Returns a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def play(slots: int, actors: int, tell: Any) -> None:
    """Plays and serves in a process of its own until it is told to end."""
    hub, each = Hub(), slots // actors
    told = [
        Pictures(show("bench", "flashgames.NeonRace-v0"), f"rollouts-{n}", hub, PicturesConfig())
        for n in range(actors)
    ]
    for slot in range(actors * each):
        actor = told[slot // each]
        actor.stepped(np.array([slot]), painted(slot, 0)[None], 0.0)
        for score in range(10):
            actor.ended(record(slot, float(score)))
        actor.reported([playing(slot)])
    with FakeSlots(told, each, fps=FPS), served(hub) as url:
        tell.send(url)
        tell.recv()
    for actor in told:
        actor.close()


def measured(what: Callable[[], dict[str, float]], seconds: float) -> dict[str, float]:
    """Returns how much each number grows in a second."""
    before, start_s = what(), time.monotonic()
    time.sleep(seconds)
    after, took_s = what(), time.monotonic() - start_s
    return {name: (after[name] - before[name]) / took_s for name in after}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--actors", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    player = multiprocessing.get_context("spawn").Process(
        target=play, args=(arguments.slots, arguments.actors, there)
    )
    player.start()
    try:
        url = here.recv()
        assert player.pid is not None
        time.sleep(WARM_UP_S)
        unseen = measured(lambda: {"cpu": cpu_s({player.pid or 0})}, arguments.seconds)
        with (
            tempfile.TemporaryDirectory() as scratch,
            page_at(url, Path(scratch), size_px=(1900, 2600)) as page,
        ):
            page.wait_for(f"window.raygymWall && raygymWall.tiles.size === {arguments.slots}")
            page.press("-")
            in_view = "[...raygymWall.tiles.values()].filter((tile) => tile.isVisible).length"
            page.wait_for(f"{in_view} === {arguments.slots}")
            page.evaluate(
                "window.frames_drawn = 0; window.longest_ms = 0; let last = performance.now();"
                "(function next() { requestAnimationFrame((now) => { window.frames_drawn += 1;"
                " window.longest_ms = Math.max(window.longest_ms, now - last); last = now;"
                " next(); }); })()"
            )
            time.sleep(WARM_UP_S)
            page.evaluate("window.longest_ms = 0")
            below = tree(page.browser.pid or 0)

            def seen() -> dict[str, float]:
                counts = page.evaluate("({...raygymWall.counts, frames: window.frames_drawn})")
                return {
                    "cpu": cpu_s({player.pid or 0}),
                    "page_cpu": cpu_s(below),
                    **{name: float(value) for name, value in counts.items()},
                }

            found = measured(seen, arguments.seconds)
            ages = page.evaluate("[...raygymWall.tiles.values()].map((tile) => tile.age())")
            longest_ms = page.evaluate("window.longest_ms")
        here.send("end")
        player.join(20)
    finally:
        player.kill()
    result = {
        "slots": arguments.slots,
        "pictures_per_s": found["pictures"],
        "messages_per_s": found["messages"],
        "frames_per_s": found["frames"],
        "longest_frame_ms": longest_ms,
        "age_median_s": float(np.median(ages)),
        "age_most_s": float(np.max(ages)),
        "cpu_of_players_and_server_unseen": unseen["cpu"],
        "cpu_of_players_and_server_seen": found["cpu"],
        "cpu_of_page": found["page_cpu"],
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:<36} {value:.2f}")


if __name__ == "__main__":
    main()
