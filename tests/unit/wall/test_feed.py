from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest

from raygym.errors import RaygymError
from raygym.wall.feed import SILENT_S, Feed, Page
from raygym.wall.hub import Hub
from raygym.wall.tiles import News, Picture, Publication, Row, Watch


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def read(message: bytes | None) -> tuple[dict[str, Any], list[bytes]]:
    """Reads a message as the page does."""
    assert message is not None
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    offset, pictures = 4 + length, []
    for picture in header["pictures"]:
        pictures.append(message[offset : offset + picture["bytes"]])
        offset += picture["bytes"]
    assert offset == len(message)
    return header, pictures


class Wall:
    """A hub, a feed that follows it step by step, and one page."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = Hub(self.clock)
        self.feed = Feed(self.hub, self.clock)
        self.page = Page()

    def publish(self, *slots: int, pictures: dict[int, bytes] | None = None, **facts: Any) -> None:
        made = [Picture(slot=s, kind="jpeg", data=d) for s, d in (pictures or {}).items()]
        rows = [Row(run="run", slot=slot, **facts) for slot in slots]
        self.hub.publish(Publication(run="run", actor="a", slots=slots, rows=rows, pictures=made))

    def follow(self) -> None:
        watch = Watch(name="s")
        self.feed.problem = ""
        self.feed._take(self.hub.news(self.feed._epoch, self.feed._since, watch))

    def told(self) -> dict[str, Any]:
        return read(self.feed.message_for(self.page))[0]


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_a_page_is_told_once_of_each_row(wall):
    wall.publish(0, 1, env_id="catch.Catch-v0")
    wall.follow()

    assert [row["key"] for row in wall.told()["rows"]] == ["run/0", "run/1"]
    assert wall.feed.message_for(wall.page) is None


def test_only_pictures_in_view_are_sent_each_once_and_whole(wall):
    wall.publish(0, 1, 2, pictures={0: b"zero", 1: b"one!", 2: b"two"})
    wall.follow()
    wall.page.visible = frozenset({"run/0", "run/2"})
    header, pictures = read(wall.feed.message_for(wall.page))

    found = dict(zip([p["key"] for p in header["pictures"]], pictures, strict=True))
    assert found == {"run/0": b"zero", "run/2": b"two"}
    wall.page.visible = frozenset({"run/0", "run/1"})
    header, pictures = read(wall.feed.message_for(wall.page))
    assert pictures == [b"one!"]


def test_a_slow_page_skips_to_the_newest_picture(wall):
    wall.page.visible = frozenset({"run/0"})
    for data in (b"first", b"second", b"third"):
        wall.publish(0, pictures={0: data})
        wall.follow()

    assert read(wall.feed.message_for(wall.page))[1] == [b"third"]


def test_a_picture_s_age_counts_until_it_is_sent(wall):
    wall.publish(0, pictures={0: b"x"})
    wall.follow()
    wall.clock.now_s += 3.0
    wall.page.visible = frozenset({"run/0"})

    assert wall.told()["pictures"][0]["age_s"] == 3.0


def test_a_silent_actor_is_said_to_be_silent_and_then_not(wall):
    wall.publish(0)
    wall.follow()
    assert not wall.told()["rows"][0]["is_silent"]
    wall.clock.now_s += SILENT_S + 1.0
    wall.follow()
    row = wall.told()["rows"][0]
    assert (row["is_silent"], row["heard_s"]) == (True, 7.0)
    wall.publish(0)
    wall.follow()
    assert not wall.told()["rows"][0]["is_silent"]


def test_an_actor_that_took_leave_is_not_silent(wall):
    wall.publish(0)
    wall.hub.publish(Publication(run="run", actor="a", slots=[0], is_last=True))
    wall.clock.now_s += SILENT_S + 1.0
    wall.follow()
    row = wall.told()["rows"][0]

    assert (row["is_over"], row["is_silent"]) == (True, False)


def test_a_new_hub_takes_the_place_of_the_old_one(wall):
    wall.publish(0, 1)
    wall.follow()
    wall.told()
    wall.hub = wall.feed._door = Hub(wall.clock)
    wall.publish(1, 2)
    wall.follow()
    told = wall.told()

    assert told["gone"] == ["run/0"]
    assert "run/2" in [row["key"] for row in told["rows"]]


def test_numbers_that_json_cannot_say_are_left_out(wall):
    wall.publish(0, score=math.inf, scores=(1.0, math.nan), reaction_ms=1 / 3)
    wall.follow()
    row = wall.told()["rows"][0]

    assert (row["score"], row["scores"], row["reaction_ms"]) == (None, [1.0, None], 0.3333)


class Door:
    """A hub that does what it is told."""

    def __init__(self, act: Callable[[Watch], News]) -> None:
        self._act = act
        self.watches: list[Watch] = []

    def news(self, epoch: str, since: int, watch: Watch) -> News:
        self.watches.append(watch)
        return self._act(watch)

    def screen(self, key: str) -> None:
        return None


def follow(door: Door, page: Page) -> tuple[Feed, bytes | None]:
    """Follows until the first answer."""

    async def run() -> tuple[Feed, bytes | None]:
        feed = Feed(door)
        task = asyncio.create_task(feed.run())
        waiting = asyncio.create_task(feed.wait())
        await asyncio.sleep(0)
        feed.add(page)
        try:
            async with asyncio.timeout(10):
                await waiting
            return feed, feed.message_for(page)
        finally:
            task.cancel()
            await asyncio.wait([task])

    return asyncio.run(run())


def test_the_hub_is_asked_for_what_all_pages_see():
    door = Door(lambda watch: News(epoch="e", version=1))
    follow(door, Page(visible=frozenset({"run/0"}), large="run/1"))

    assert (door.watches[0].watched, door.watches[0].large) == ({"run/0"}, {"run/1"})


@pytest.mark.parametrize("error", [RaygymError("no hub"), RuntimeError("gone")])
def test_a_page_is_told_that_the_hub_does_not_answer(error):
    def fail(watch: Watch) -> News:
        raise error

    feed, message = follow(Door(fail), Page())

    assert feed.problem
    assert read(message)[0]["problem"] == feed.problem


def test_a_page_is_told_that_there_is_nothing_yet():
    _, message = follow(Door(lambda watch: News(epoch="e", version=0)), Page())

    assert read(message)[0]["rows"] == []
