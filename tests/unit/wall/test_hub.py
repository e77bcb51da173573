from __future__ import annotations

from dataclasses import replace

import pytest

from raygym.core import Endpoint, Remote, Secret
from raygym.wall import hub as module
from raygym.wall.hub import FORGET_ENDED_S, FORGET_S, AwaitedHub, Hub, HubAbsent, HubUnreachable
from raygym.wall.tiles import Picture, Publication, Row, Watch
from tests.support.clocks import Clock

WATCH = Watch(name="server-1")
REMOTE = Remote(
    id="r-1", runtime="catch", vnc=Endpoint(path="/s"), rewarder=None, password=Secret("p")
)


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(clock)


def publication(
    *slots: int, actor: str = "a-0", run: str = "run", **changes: object
) -> Publication:
    rows = [Row(run=run, slot=slot, actor=actor) for slot in slots]
    return replace(Publication(run=run, actor=actor, slots=slots, rows=rows), **changes)


def picture(slot: int, data: bytes = b"x", age_s: float = 0.0) -> Picture:
    return Picture(slot=slot, kind="jpeg", data=data, age_s=age_s)


def test_news_hold_what_was_published_and_nothing_twice(hub):
    hub.publish(publication(0, 1, pictures=[picture(1, b"one")]))
    first = hub.news("", 0, WATCH)
    again = hub.news(first.epoch, first.version, WATCH)

    assert [(tile.row.key, tile.picture and tile.picture.data) for tile in first.tiles] == [
        ("run/0", None),
        ("run/1", b"one"),
    ]
    assert again.tiles == []


def test_a_row_that_changed_comes_without_the_picture_that_did_not(hub):
    hub.publish(publication(0, pictures=[picture(0)]))
    first = hub.news("", 0, WATCH)
    hub.publish(publication(0, rows=[Row(run="run", slot=0, score=3.0)]))

    (tile,) = hub.news(first.epoch, first.version, WATCH).tiles

    assert (tile.row.score, tile.picture) == (3.0, None)


def test_the_age_of_a_picture_goes_on_in_the_hub(hub, clock):
    hub.publish(publication(0, pictures=[picture(0, age_s=0.25)]))
    clock.now_s += 2.0

    (tile,) = hub.news("", 0, WATCH).tiles

    assert tile.picture.age_s == pytest.approx(2.25)
    assert tile.heard_s == pytest.approx(2.0)


def test_another_epoch_brings_everything(hub):
    hub.publish(publication(0))
    news = hub.news("that of a hub before", 10**6, WATCH)

    assert [tile.row.key for tile in news.tiles] == ["run/0"]


def test_an_actor_learns_which_of_its_slots_are_seen(hub):
    hub.publish(publication(0, 1))
    watch = Watch(name="s", watched=frozenset({"run/1", "other/0"}), large=frozenset({"run/1"}))
    hub.news("", 0, watch)

    demand = hub.publish(publication(0, 1))

    assert (demand.watched, demand.large) == ({1}, {1})


def test_a_watch_that_is_not_renewed_ends(hub, clock):
    hub.news("", 0, Watch(name="s", watched=frozenset({"run/0"})))
    assert hub.publish(publication(0)).watched == {0}
    clock.now_s += 5.0

    assert hub.publish(publication(0)).watched == frozenset()


def test_two_servers_watch_side_by_side(hub):
    hub.news("", 0, Watch(name="one", watched=frozenset({"run/0"})))
    hub.news("", 0, Watch(name="two", watched=frozenset({"run/1"})))

    assert hub.publish(publication(0, 1)).watched == {0, 1}


def test_a_hub_that_knows_no_row_of_a_slot_asks_for_all(hub):
    assert hub.publish(publication(0, rows=[])).whole
    assert not hub.publish(publication(0)).whole


def test_a_slot_of_a_silent_actor_is_forgotten_and_said_to_be_gone(hub, clock):
    hub.publish(publication(0))
    first = hub.news("", 0, WATCH)
    clock.now_s += FORGET_S + 1.0

    assert hub.news(first.epoch, first.version, WATCH).gone == ["run/0"]


def test_a_slot_of_an_actor_that_took_leave_is_forgotten_sooner(hub, clock):
    hub.publish(publication(0, is_last=True))
    first = hub.news("", 0, WATCH)
    clock.now_s += FORGET_ENDED_S + 1.0

    assert first.tiles[0].is_over
    assert hub.news(first.epoch, first.version, WATCH).gone == ["run/0"]


def test_an_actor_that_was_replaced_cannot_end_the_slots_of_the_next(hub):
    hub.publish(publication(0, actor="old"))
    hub.publish(publication(0, actor="new"))
    hub.publish(publication(0, actor="old", rows=[], is_last=True))

    assert not hub.news("", 0, WATCH).tiles[0].is_over


def test_the_scores_of_a_slot_outlive_its_actors(hub):
    def ended(*scores: float, actor: str) -> None:
        row = Row(
            run="run",
            slot=0,
            actor=actor,
            episodes=len(scores),
            scores=scores,
            failed=tuple(score < 0 for score in scores),
        )
        hub.publish(publication(0, actor=actor, rows=[row]))

    ended(1.0, -2.0, actor="first")
    ended(actor="second")
    ended(3.0, actor="second")
    ended(actor="third")
    row = hub.news("", 0, WATCH).tiles[0].row

    assert (row.scores, row.failed, row.episodes) == (
        (1.0, -2.0, 3.0),
        (False, True, False),
        0,
    )


def test_a_slot_that_plays_again_is_over_no_more(hub):
    hub.publish(publication(0, is_last=True))
    hub.publish(publication(0))

    assert not hub.news("", 0, WATCH).tiles[0].is_over


def test_the_oldest_slots_make_room(clock):
    hub = Hub(clock, most_slots=3)
    for slot in range(5):
        clock.now_s += 1.0
        hub.publish(publication(slot, actor=f"a-{slot}"))

    assert [tile.row.slot for tile in hub.news("", 0, WATCH).tiles] == [2, 3, 4]


def test_a_screen_is_known_while_the_slot_has_one(hub):
    row = Row(run="run", slot=0, node="n-1", remote_id="r-1", has_screen=True)
    hub.publish(publication(0, rows=[row], remotes=[(0, REMOTE)]))
    place = hub.screen("run/0")

    assert (place.remote, place.node, place.remote_id) == (REMOTE, "n-1", "r-1")
    assert hub.screen("run/1") is None

    hub.publish(publication(0, rows=[replace(row, has_screen=False)]))
    assert hub.screen("run/0") is None


def test_no_password_stands_in_what_is_printed(hub):
    row = Row(run="run", slot=0, has_screen=True)
    told = publication(0, rows=[row], remotes=[(0, replace(REMOTE, password=Secret("hidden-1")))])
    hub.publish(told)

    assert "hidden-1" not in repr(told) + repr(hub.screen("run/0")) + repr(hub)


def test_who_has_pictures_waits_for_somebody_who_looks(monkeypatch):
    there, told, lost = [False], [], [False]

    class Made:
        def publish(self, news: Publication) -> None:
            if lost[0]:
                raise HubUnreachable("gone")
            told.append(news)

    monkeypatch.setattr(module, "has_actor", lambda _name: there[0])
    awaited = AwaitedHub(Made())
    with pytest.raises(HubAbsent, match="raygym watch"):
        awaited.publish(publication())
    assert told == []
    there[0] = True
    awaited.publish(publication())
    there[0] = False
    awaited.publish(publication())
    assert len(told) == 2, "one that answered is not looked for again"
    lost[0] = True
    with pytest.raises(HubUnreachable, match="gone"):
        awaited.publish(publication())
    with pytest.raises(HubAbsent):
        awaited.publish(publication())
