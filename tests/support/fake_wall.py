"""A wall without Ray: slots that play nothing, a hub in this process, a server in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from raygym.core import Outcome, Remote, UInt8Array
from raygym.service.reports import EpisodeRecord, SamplerReport
from raygym.service.spectators import Show
from raygym.wall.access import Access
from raygym.wall.hub import Hub
from raygym.wall.pictures import Pictures, PicturesConfig
from raygym.wall.screens import SocketLine, dial_here
from raygym.wall.server import WallConfig
from raygym.wall.serving import WallThread
from raygym.wall.tiles import ScreenPlace

QUICK = PicturesConfig(heartbeat_s=0.2, gap_s=0.02)


class HereScreens:
    """Reaches screens of this machine."""

    async def dial(self, place: ScreenPlace) -> SocketLine:
        return await dial_here(place)


def show(run: str = "run-1", env_id: str = "catch.Catch-v0", mode: str = "realtime") -> Show:
    return Show(run=run, env_id=env_id, runtime=env_id.partition(".")[0], mode=mode)


def record(slot: int, score: float, **changes: object) -> EpisodeRecord:
    facts = {
        "slot": slot,
        "score": score,
        "steps": 100,
        "duration_s": 6.5,
        "outcome": Outcome.OK,
        "reason": "",
        **changes,
    }
    return EpisodeRecord(**facts)  # type: ignore[arg-type]


def playing(
    slot: int, *, reaction_ms: float | None = 40.0, remote: Remote | None = None
) -> SamplerReport:
    times = {} if reaction_ms is None else {"reaction_time_ms": [reaction_ms]}
    return SamplerReport(slot=slot, state="running", times_ms=times, remote=remote)


def painted(slot: int, tick: int, size_px: tuple[int, int] = (160, 120)) -> UInt8Array:
    """Returns uint8[H, W, 3]: a field of the slot's colour with a ball that moves."""
    width, height = size_px
    hue = (slot * 47) % 256
    field = np.empty((height, width, 3), np.uint8)
    ramp = np.linspace(0.55, 1.0, height)[:, None]
    for channel, shift in enumerate((0, 85, 170)):
        base = 90 + 80 * np.sin((hue + shift) * 2 * np.pi / 256)
        field[:, :, channel] = base * ramp
    x = int((tick * 7 + slot * 31) % (width - 16))
    y = int(abs((tick * 5 + slot * 13) % (2 * (height - 16)) - (height - 16)))
    field[y : y + 16, x : x + 16] = 240
    return field


class FakeSlots:
    """Slots whose pictures move, on a thread of its own."""

    def __init__(self, pictures: Sequence[Pictures], slots_each: int, *, fps: float = 10.0) -> None:
        self._pictures = pictures
        self._each = slots_each
        self._pause_s = 1.0 / fps
        self._must_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake slots")
        self.paused: set[int] = set()

    def __enter__(self) -> FakeSlots:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._must_end.set()
        self._thread.join(10)

    def _run(self) -> None:
        count = self._each * len(self._pictures)
        loops = [np.stack([painted(slot, 4 * tick) for tick in range(24)]) for slot in range(count)]
        tick = 0
        while not self._must_end.wait(self._pause_s):
            tick += 1
            for actor, pictures in enumerate(self._pictures):
                first = actor * self._each
                slots = [s for s in range(first, first + self._each) if s not in self.paused]
                if slots:
                    seen = np.stack([loops[slot][tick % 24] for slot in slots])
                    pictures.stepped(np.array(slots), seen, 0.01)


@contextlib.contextmanager
def served(hub: Hub, **options: object) -> Iterator[str]:
    """Serves a wall on loopback; gives its address."""
    access = options.pop("access", None) or Access("127.0.0.1")
    screens = options.pop("screens", None) or HereScreens()
    config = WallConfig(access=access, **options)  # type: ignore[arg-type]
    wall = WallThread(hub, screens, config)  # type: ignore[arg-type]
    try:
        yield wall.url
    finally:
        wall.close()


def until(claim: object, *, timeout_s: float = 10.0) -> None:
    """Waits until a function returns something true."""
    deadline_s = time.monotonic() + timeout_s
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.01)
