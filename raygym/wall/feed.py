"""What the pages of a wall are sent: batches of rows and pictures, never more than they take."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from raygym.errors import RaygymError
from raygym.wall.hub import Door
from raygym.wall.tiles import News, Picture, Row, Tile, Watch

log = logging.getLogger(__name__)

TICK_S = 0.2
"""How often the hub is asked, and pages are told, while somebody looks."""
LARGE_TICK_S = 0.07
"""The same while somebody looks at an agent's picture in full."""
SILENT_S = 6.0
"""An actor that said nothing for so long is shown as silent."""
_RETRY_S = 2.0
_LENGTH = struct.Struct("<I")


@dataclass
class _Entry:
    row: Row
    is_over: bool
    heard_s: float
    """When its actor said something."""
    row_number: int
    is_silent: bool = False
    picture: Picture | None = None
    picture_s: float = 0.0
    picture_number: int = 0


@dataclass(eq=False)
class Page:
    """One page that looks, and what it was told."""

    visible: frozenset[str] = frozenset()
    """Keys of the slots that it shows."""
    large: str | None = None
    """Key of the slot whose picture fills it."""
    told: int = 0
    """Number of the last row it was told of."""
    pictures: dict[str, int] = field(default_factory=dict)
    """Number of the last picture it was sent, by key."""
    problem: str | None = None
    """What it was last told of the hub; None before the first time."""


class Feed:
    """Follows the hub while there are pages, and makes messages for them.

    Belongs to one event loop.

    Args:
        door: The hub.
        clock: Seconds, steady.
    """

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._epoch, self._since = "", 0
        self._number = 0
        self._entries: dict[str, _Entry] = {}
        self._gone: list[tuple[int, str]] = []
        self._pages: set[Page] = set()
        self._has_pages = asyncio.Event()
        self._changed = asyncio.Condition()
        self.problem: str | None = None
        """Why the hub does not answer; empty while it does, None until it was asked."""

    def add(self, page: Page) -> None:
        """Begins to follow for a page."""
        self._pages.add(page)
        self._has_pages.set()

    def remove(self, page: Page) -> None:
        """Ends that; may be called twice."""
        self._pages.discard(page)
        if not self._pages:
            self._has_pages.clear()

    async def run(self) -> None:
        """Follows the hub until it is cancelled."""
        while True:
            await self._has_pages.wait()
            watch = Watch(
                name=self._name,
                watched=frozenset().union(*(page.visible for page in self._pages)),
                large=frozenset(page.large for page in self._pages if page.large),
            )
            try:
                news = await asyncio.to_thread(self._door.news, self._epoch, self._since, watch)
            # The cluster may end while the wall stands; Ray raises what it likes then.
            except Exception as error:  # noqa: BLE001
                if not self.problem:
                    log.warning("wall.no_hub cause=%s", error)
                is_ours = isinstance(error, RaygymError)
                await self._tell(str(error) if is_ours else type(error).__name__)
                await asyncio.sleep(_RETRY_S)
                continue
            self._take(news)
            await self._tell("")
            await asyncio.sleep(LARGE_TICK_S if watch.large else TICK_S)

    async def wait(self) -> None:
        """Waits for the next answer of the hub."""
        async with self._changed:
            await self._changed.wait()

    def message_for(self, page: Page) -> bytes | None:
        """Returns what a page does not know yet; None if that is nothing.

        Returns:
            The length of a JSON header, uint32 little-endian; the header; the bytes of its
            pictures, one after the other.
        """
        if self.problem is None:
            return None
        now_s = self._clock()
        rows = [
            self._row(entry, now_s)
            for entry in self._entries.values()
            if entry.row_number > page.told
        ]
        gone = [key for number, key in self._gone if number > page.told]
        is_new = page.problem != self.problem
        pictures = list(self._pictures_for(page))
        if not (rows or gone or pictures or is_new):
            return None
        page.told, page.problem = self._number, self.problem
        heads = []
        for key, entry, picture in pictures:
            page.pictures[key] = entry.picture_number
            heads.append(
                {
                    "key": key,
                    "kind": picture.kind,
                    "bytes": len(picture.data),
                    "width": picture.width_px,
                    "height": picture.height_px,
                    "age_s": round(now_s - entry.picture_s, 3),
                }
            )
        for key in gone:
            page.pictures.pop(key, None)
        header = {"problem": self.problem, "rows": rows, "gone": gone, "pictures": heads}
        text = json.dumps(header, separators=(",", ":")).encode()
        return b"".join([_LENGTH.pack(len(text)), text, *(one.data for _, _, one in pictures)])

    def _pictures_for(self, page: Page) -> Iterable[tuple[str, _Entry, Picture]]:
        wanted = page.visible | ({page.large} if page.large else set())
        for key in wanted:
            entry = self._entries.get(key)
            if entry is None or entry.picture is None:
                continue
            if entry.picture_number != page.pictures.get(key):
                yield key, entry, entry.picture

    def _take(self, news: News) -> None:
        now_s = self._clock()
        self._number += 1
        if news.epoch != self._epoch:
            there = {tile.row.key for tile in news.tiles}
            self._drop(key for key in tuple(self._entries) if key not in there)
        self._epoch, self._since = news.epoch, news.version
        for tile in news.tiles:
            self._take_tile(tile, now_s)
        self._drop(news.gone)
        for key, heard_s in news.heard_s.items():
            if (entry := self._entries.get(key)) is not None:
                entry.heard_s = now_s - heard_s
        for entry in self._entries.values():
            is_silent = not entry.is_over and now_s - entry.heard_s > SILENT_S
            if is_silent != entry.is_silent:
                entry.is_silent, entry.row_number = is_silent, self._number

    def _take_tile(self, tile: Tile, now_s: float) -> None:
        entry = self._entries.get(tile.row.key)
        if entry is None:
            heard_s = now_s - tile.heard_s
            entry = _Entry(tile.row, tile.is_over, heard_s, self._number)
            self._entries[tile.row.key] = entry
        elif entry.row != tile.row or entry.is_over != tile.is_over:
            entry.row, entry.is_over, entry.row_number = tile.row, tile.is_over, self._number
        if tile.picture is not None:
            entry.picture, entry.picture_number = tile.picture, self._number
            entry.picture_s = now_s - tile.picture.age_s

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self._entries.pop(key, None) is not None:
                self._gone = [*self._gone[-9999:], (self._number, key)]

    def _row(self, entry: _Entry, now_s: float) -> dict[str, Any]:
        row = {name: _plain(value) for name, value in asdict(entry.row).items()}
        return {
            **row,
            "key": entry.row.key,
            "is_over": entry.is_over,
            "is_silent": entry.is_silent,
            "heard_s": round(now_s - entry.heard_s, 1),
        }

    async def _tell(self, problem: str) -> None:
        self.problem = problem
        async with self._changed:
            self._changed.notify_all()


def _plain(value: Any) -> Any:
    """Returns what JSON can say: no infinities, four digits after the point."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
