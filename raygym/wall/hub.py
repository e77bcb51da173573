"""Where the actors of a cluster leave their pictures and the wall finds them."""

from __future__ import annotations

import functools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from raygym.core import Remote
from raygym.errors import RaygymError
from raygym.service.detached import DetachedActor, get_or_make, has_actor
from raygym.wall.tiles import (
    HISTORY_EPISODES,
    Demand,
    News,
    Picture,
    Publication,
    Row,
    ScreenPlace,
    Tile,
    Watch,
)

NAME = "raygym-wall"
"""Of the hub's actor."""

MOST_SLOTS = 4096
"""The oldest of more are forgotten."""
FORGET_S = 600.0
"""A slot of which nothing was heard for so long is forgotten."""
FORGET_ENDED_S = 120.0
"""A slot whose actor has taken leave is forgotten after so long."""
_WATCH_S = 4.0
"""How long a watch holds that is not renewed."""
_THREADS = 16


class HubUnreachable(RaygymError):
    """The hub of the wall gave no answer in time."""


class HubAbsent(HubUnreachable):
    """Nobody has looked at the wall yet, so that there is no hub."""


class Door(Protocol):
    """The hub, as a server of the wall sees it; calls may block for seconds."""

    def news(self, epoch: str, since: int, watch: Watch) -> News:
        """Returns what changed since version ``since`` of ``epoch``."""
        ...

    def screen(self, key: str) -> ScreenPlace | None:
        """Returns where a slot's screen is; None where it has none, or is not known."""
        ...


@dataclass
class _Entry:
    row: Row
    actor: str
    heard_s: float
    row_version: int
    remote: Remote | None = None
    picture: Picture | None = None
    picture_version: int = 0
    picture_s: float = 0.0
    is_over: bool = False
    earlier: Row | None = None
    """The last row of the actor before this one."""


@dataclass
class _Watched:
    watch: Watch
    until_s: float


class Hub:
    """Keeps the newest row and picture of each slot; a plain class, an actor in a cluster.

    May be called from many threads.

    Args:
        clock: Seconds, steady.
        most_slots: How many slots are kept.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, most_slots: int = MOST_SLOTS
    ) -> None:
        self._clock = clock
        self._most_slots = most_slots
        self._epoch = secrets.token_hex(8)
        self._version = 0
        self._entries: dict[str, _Entry] = {}
        self._gone: list[tuple[int, str]] = []
        self._watches: dict[str, _Watched] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Hub(the wall)"

    def publish(self, publication: Publication) -> Demand:
        """Takes in what an actor tells; returns what it should send of its slots."""
        with self._lock:
            now_s = self._clock()
            self._version += 1
            for row in publication.rows:
                self._take_row(row, publication.actor, now_s)
            keys = {slot: f"{publication.run}/{slot}" for slot in publication.slots}
            is_unknown = False
            for key in keys.values():
                entry = self._entries.get(key)
                if entry is None:
                    is_unknown = True
                elif entry.actor == publication.actor:
                    self._hear(entry, now_s, is_over=publication.is_last)
            for slot, remote in publication.remotes:
                if (entry := self._entries.get(f"{publication.run}/{slot}")) is not None:
                    entry.remote = remote
            for picture in publication.pictures:
                entry = self._entries.get(f"{publication.run}/{picture.slot}")
                if entry is not None:
                    entry.picture, entry.picture_s = picture, now_s - picture.age_s
                    entry.picture_version = self._version
            self._forget(now_s)
            return self._demand(keys, now_s, is_unknown=is_unknown)

    def news(self, epoch: str, since: int, watch: Watch) -> News:
        """See ``Door``; the watch is remembered for some seconds."""
        with self._lock:
            now_s = self._clock()
            self._watches[watch.name] = _Watched(watch, now_s + _WATCH_S)
            self._forget(now_s)
            if epoch != self._epoch:
                since = 0
            tiles = [
                self._tile(entry, since, now_s)
                for entry in self._entries.values()
                if max(entry.row_version, entry.picture_version) > since
            ]
            return News(
                epoch=self._epoch,
                version=self._version,
                tiles=tiles,
                gone=[key for version, key in self._gone if version > since],
                heard_s={key: now_s - entry.heard_s for key, entry in self._entries.items()},
            )

    def screen(self, key: str) -> ScreenPlace | None:
        """See ``Door``."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.row.has_screen or entry.is_over:
                return None
            row = entry.row
            return ScreenPlace(remote_id=row.remote_id, node=row.node, remote=entry.remote)

    def _take_row(self, row: Row, actor: str, now_s: float) -> None:
        entry = self._entries.get(row.key)
        if entry is None:
            self._entries[row.key] = _Entry(row, actor, now_s, self._version)
        else:
            if row.episodes < entry.row.episodes:
                # A new actor has taken the place of one that ended, and counts from 0.
                entry.earlier = _with_earlier(entry.row, entry.earlier)
            entry.row, entry.actor, entry.row_version = row, actor, self._version
            if not row.has_screen:
                entry.remote = None

    def _hear(self, entry: _Entry, now_s: float, *, is_over: bool) -> None:
        entry.heard_s = now_s
        if entry.is_over != is_over:
            entry.is_over, entry.row_version = is_over, self._version

    def _demand(self, keys: dict[int, str], now_s: float, *, is_unknown: bool) -> Demand:
        watches = [one.watch for one in self._watches.values() if one.until_s > now_s]
        return Demand(
            watched=frozenset(
                slot for slot, key in keys.items() if any(key in one.watched for one in watches)
            ),
            large=frozenset(
                slot for slot, key in keys.items() if any(key in one.large for one in watches)
            ),
            whole=is_unknown,
        )

    def _tile(self, entry: _Entry, since: int, now_s: float) -> Tile:
        picture = entry.picture
        if picture is not None:
            is_new = entry.picture_version > since
            picture = replace(picture, age_s=now_s - entry.picture_s) if is_new else None
        return Tile(
            row=_with_earlier(entry.row, entry.earlier),
            heard_s=now_s - entry.heard_s,
            is_over=entry.is_over,
            picture=picture,
        )

    def _forget(self, now_s: float) -> None:
        self._watches = {n: one for n, one in self._watches.items() if one.until_s > now_s}
        old = [
            key
            for key, entry in self._entries.items()
            if now_s - entry.heard_s > (FORGET_ENDED_S if entry.is_over else FORGET_S)
        ]
        too_many = len(self._entries) - len(old) - self._most_slots
        if too_many > 0:
            by_age = sorted(self._entries, key=lambda key: self._entries[key].heard_s)
            old = list({*old, *by_age[: too_many + len(old)]})
        if not old:
            return
        self._version += 1
        for key in old:
            del self._entries[key]
        self._gone = [*self._gone, *((self._version, key) for key in old)][-self._most_slots :]


def _with_earlier(row: Row, earlier: Row | None) -> Row:
    """Returns a row whose scores begin with those of the actor before."""
    if earlier is None:
        return row
    return replace(
        row,
        scores=(*earlier.scores, *row.scores)[-HISTORY_EPISODES:],
        failed=(*earlier.failed, *row.failed)[-HISTORY_EPISODES:],
    )


class RayHub:
    """The hub of this Ray cluster; the first who calls makes it.

    Args:
        name: Of its actor.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, name: str = NAME, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        make = functools.partial(get_or_make, Hub, name, threads=_THREADS)
        self._actor = DetachedActor(name, make, HubUnreachable)

    def publish(self, publication: Publication) -> Demand:
        """See ``Hub.publish``.

        Raises:
            HubUnreachable: No answer came in time.
        """
        demand: Demand = self._actor.call("publish", publication, timeout_s=self._timeout_s)
        return demand

    def news(self, epoch: str, since: int, watch: Watch) -> News:
        """See ``Door``.

        Raises:
            HubUnreachable: No answer came in time.
        """
        news: News = self._actor.call("news", epoch, since, watch, timeout_s=self._timeout_s)
        return news

    def screen(self, key: str) -> ScreenPlace | None:
        """See ``Door``.

        Raises:
            HubUnreachable: No answer came in time.
        """
        place: ScreenPlace | None = self._actor.call("screen", key, timeout_s=self._timeout_s)
        return place


class AwaitedHub:
    """The hub of this Ray cluster, for whoever has pictures: it is made by those who look.

    Args:
        hub: It.
        name: Of its actor.
    """

    def __init__(self, hub: RayHub | None = None, name: str = NAME) -> None:
        self._hub = hub or RayHub(name)
        self._name = name
        self._is_there = False

    def publish(self, publication: Publication) -> Demand:
        """See ``Hub.publish``.

        Raises:
            HubAbsent: Nobody has made it.
            HubUnreachable: No answer came in time.
        """
        if not self._is_there and not has_actor(self._name):
            raise HubAbsent("nobody looks at the wall; `raygym watch` does")
        self._is_there = False
        demand = self._hub.publish(publication)
        self._is_there = True
        return demand
