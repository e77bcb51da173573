from __future__ import annotations

import pickle
import threading
from functools import partial

import numpy as np
import pytest

from raygym.core import Endpoint, Outcome, Remote
from raygym.errors import ConfigError
from raygym.service.reports import SamplerReport
from raygym.wall.hub import Hub, HubAbsent, HubUnreachable
from raygym.wall.pictures import Pictures, PicturesConfig
from raygym.wall.tiles import HISTORY_EPISODES, Demand, Publication, Watch
from tests.support.clocks import Clock
from tests.support.fake_wall import QUICK, painted, playing, record, show, until

FRAME = painted(0, 0)[None]


class Recorder:
    """A hub that keeps what it is told and answers what it is given."""

    def __init__(self, demand: Demand | None = None) -> None:
        self.demand = demand or Demand()
        self.told: list[Publication] = []

    def publish(self, publication: Publication) -> Demand:
        self.told.append(publication)
        return self.demand

    @property
    def pictures(self) -> list[tuple[int, int]]:
        return [(one.slot, one.width_px) for told in self.told for one in told.pictures]

    @property
    def rows(self):
        return {row.slot: row for told in self.told for row in told.rows}


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def pictures(recorder, clock):
    made = Pictures(show(), "a-0", recorder, QUICK, node="n-1", clock=clock)
    yield made
    made.close()


def step(pictures: Pictures, *slots: int) -> None:
    pictures.stepped(np.array(slots), np.concatenate([FRAME] * len(slots)), 0.01)


def test_a_slot_s_first_picture_is_sent_with_its_row(pictures, recorder):
    step(pictures, 3)
    until(lambda: recorder.pictures)

    row = recorder.rows[3]
    assert recorder.pictures == [(3, 160)]
    assert (row.run, row.env_id, row.actor, row.node) == ("run-1", "catch.Catch-v0", "a-0", "n-1")


def test_an_unseen_slot_is_sent_seldom(pictures, recorder, clock):
    for _ in range(100):
        step(pictures, 0)
        clock.now_s += 0.1
    pictures.close()

    assert len(recorder.pictures) == 1


def test_a_slot_that_is_seen_is_sent_twice_a_second(pictures, recorder, clock):
    recorder.demand = Demand(watched=frozenset({0}))
    step(pictures, 0, 1)
    until(lambda: recorder.pictures)
    until(lambda: pictures._demand.watched)
    for _ in range(20):
        count = len(recorder.pictures)
        step(pictures, 0, 1)
        clock.now_s += 0.25
        if pictures._taken:
            until(lambda count=count: len(recorder.pictures) > count)
    pictures.close()

    assert 8 <= sum(slot == 0 for slot, _ in recorder.pictures) <= 12
    assert sum(slot == 1 for slot, _ in recorder.pictures) == 1


def test_a_slot_that_is_looked_at_in_full_is_sent_in_full(recorder, clock):
    recorder.demand = Demand(large=frozenset({0}))
    config = PicturesConfig(heartbeat_s=0.05, gap_s=0.0, thumbnail_px=40)
    pictures = Pictures(show(), "a-0", recorder, config, clock=clock)
    step(pictures, 0)
    until(lambda: pictures._demand.large)
    step(pictures, 0)
    until(lambda: len(recorder.pictures) > 1)
    pictures.close()

    assert recorder.pictures[:2] == [(0, 40), (0, 160)]


def test_the_copy_is_taken_at_once(pictures, recorder):
    frame = FRAME.copy()
    pictures.stepped(np.array([0]), frame, 0.0)
    kept = pictures._taken.get(0)
    frame[:] = 0

    assert kept is None or kept.seen.any()


def test_an_episode_s_end_and_a_report_make_the_row(pictures, recorder):
    remote = Remote(id="r-1", runtime="catch", vnc=Endpoint(path="/s"), rewarder=None)
    pictures.ended(record(0, 2.5))
    pictures.ended(record(0, -1.0, outcome=Outcome.ENV_FAILURE, reason="browser_crashed"))
    pictures.reported([playing(0, reaction_ms=41.0, remote=remote)])
    until(lambda: 0 in recorder.rows and recorder.rows[0].state == "running")

    row = recorder.rows[0]
    assert (row.score, row.outcome, row.reason) == (-1.0, "env_failure", "browser_crashed")
    assert (row.episodes, row.scores, row.failed) == (2, (2.5, -1.0), (False, True))
    assert (row.reaction_ms, row.remote_id, row.has_screen) == (41.0, "r-1", True)
    assert [told.remotes for told in recorder.told if told.remotes] == [[(0, remote)]]


@pytest.mark.parametrize(
    ("backend", "mode", "has_screen"),
    [("docker", "realtime", True), ("docker", "lockstep", False), ("process", "realtime", False)],
)
def test_a_container_s_screen_is_found_by_its_name(recorder, backend, mode, has_screen):
    from dataclasses import replace

    told = replace(show(mode=mode), backend=backend)
    pictures = Pictures(told, "a-0", recorder, QUICK)
    pictures.reported([SamplerReport(slot=0, state="running", remote_id="r-1")])
    pictures.close()

    assert recorder.rows[0].has_screen is has_screen


def test_a_report_without_times_keeps_the_reaction_time_of_the_one_before(pictures, recorder):
    pictures.reported([playing(0, reaction_ms=41.0)])
    pictures.reported([playing(0, reaction_ms=None)])
    pictures.close()

    assert recorder.rows[0].reaction_ms == 41.0


def test_the_scores_of_a_long_run_are_bounded(pictures, recorder):
    for score in range(3 * HISTORY_EPISODES):
        pictures.ended(record(0, float(score)))
    pictures.close()

    assert len(recorder.rows[0].scores) == HISTORY_EPISODES
    assert recorder.rows[0].episodes == 3 * HISTORY_EPISODES


def test_whoever_plays_never_waits_for_a_hub_that_does_not_answer(clock):
    is_asked, may_answer = threading.Event(), threading.Event()

    class Stuck:
        def publish(self, publication: Publication) -> Demand:
            is_asked.set()
            assert may_answer.wait(20)
            return Demand()

    pictures = Pictures(show(), "a-0", Stuck(), QUICK, clock=clock)
    step(pictures, 0)
    assert is_asked.wait(10)
    for _ in range(200):
        clock.now_s += 20.0
        step(pictures, 0, 1)
        pictures.ended(record(0, 1.0))

    assert sorted(pictures._taken) == [0, 1], "one picture a slot waits, whatever comes"
    may_answer.set()
    pictures.close()


def test_news_that_did_not_arrive_are_told_again(clock, caplog):
    class Away(Recorder):
        is_away = True

        def publish(self, publication: Publication) -> Demand:
            if self.is_away:
                self.is_away = False
                raise HubUnreachable("nobody there")
            return super().publish(publication)

    away = Away()
    config = PicturesConfig(heartbeat_s=0.05, gap_s=0.0, retry_s=0.05)
    pictures = Pictures(show(), "a-0", away, config, clock=clock)
    pictures.ended(record(0, 4.0))
    step(pictures, 0)
    until(lambda: 0 in away.rows)
    pictures.close()

    assert away.rows[0].score == 4.0
    assert "wall.unreachable" in caplog.text


def test_nothing_is_said_while_nobody_looks_and_all_is_told_when_somebody_does(clock, caplog):
    class Absent(Recorder):
        looks = 0

        def publish(self, publication: Publication) -> Demand:
            self.looks += 1
            if self.looks < 3:
                raise HubAbsent("nobody looks")
            return super().publish(publication)

    absent = Absent()
    config = PicturesConfig(heartbeat_s=0.05, gap_s=0.0, absent_s=0.01)
    pictures = Pictures(show(), "a-0", absent, config, clock=clock)
    pictures.ended(record(0, 4.0))
    until(lambda: 0 in absent.rows)
    pictures.close()

    assert absent.rows[0].score == 4.0
    assert caplog.text == ""


def test_a_new_hub_is_told_everything(recorder, pictures):
    pictures.reported([playing(0), playing(1)])
    until(lambda: len(recorder.rows) == 2)
    recorder.told.clear()
    recorder.demand = Demand(whole=True)

    until(lambda: len(recorder.rows) == 2)


def test_the_hub_hears_of_an_actor_that_has_nothing_to_tell(pictures, recorder):
    step(pictures, 0)
    until(lambda: recorder.pictures)
    count = len(recorder.told)

    until(lambda: len(recorder.told) > count + 1)


def test_the_last_that_is_told_is_leave(recorder):
    pictures = Pictures(show(), "a-0", recorder, QUICK)
    step(pictures, 0)
    pictures.close()
    pictures.close()

    assert [told.is_last for told in recorder.told][-1]
    assert sum(told.is_last for told in recorder.told) == 1


def test_a_hub_in_between_shows_what_was_seen():
    hub = Hub()
    pictures = Pictures(show(), "a-0", hub, QUICK)
    step(pictures, 0)
    until(lambda: hub.news("", 0, Watch(name="s")).tiles)
    pictures.close()

    (tile,) = hub.news("", 0, Watch(name="s")).tiles
    assert tile.is_over
    assert tile.picture.data[:2] == b"\xff\xd8"


def test_what_makes_one_in_an_actor_pickles():
    made = pickle.loads(pickle.dumps(partial(Pictures.open, PicturesConfig(channels=3))))

    assert made.args == (PicturesConfig(channels=3),)


@pytest.mark.parametrize("wrong", [{"channels": 2}, {"watched_every_s": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PicturesConfig(**wrong)
