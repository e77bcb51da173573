from __future__ import annotations

import pytest

from raygym.runtimes.watchdog import Watchdog


@pytest.fixture
def watchdog() -> Watchdog:
    it = Watchdog(100.0)
    it.begin_episode(100.0)
    return it


def test_a_page_that_says_something_now_and_then_is_well(watchdog):
    for now_s in (101.0, 104.0, 107.0):
        watchdog.heard(now_s)
        assert watchdog.problem(now_s + 3, is_running=True) is None


def test_silence_is_a_problem_and_its_length_is_named(watchdog):
    assert watchdog.problem(103.4, is_running=True) is None
    assert "4.0 s" in watchdog.problem(104.0, is_running=True)


def test_silence_may_last_longer_while_no_episode_runs(watchdog):
    assert watchdog.problem(110.0, is_running=False) is None
    assert watchdog.problem(120.0, is_running=False) is not None


def test_a_game_that_stops_to_count_its_frames_is_a_problem_though_the_page_lives(watchdog):
    watchdog.heard(101.0, frames=25)
    for now_s in (102.0, 103.0, 104.0, 105.0):
        watchdog.heard(now_s, frames=25)
    assert "the game showed no frame for 4.0 s" in watchdog.problem(105.0, is_running=True)


def test_a_game_that_never_counted_a_frame_may_stand_still(watchdog):
    for now_s in range(101, 120):
        watchdog.heard(now_s, frames=0)
        assert watchdog.problem(now_s, is_running=True) is None


def test_a_new_episode_owes_nothing_for_the_frames_of_the_one_before(watchdog):
    watchdog.heard(101.0, frames=25)
    watchdog.begin_episode(101.0)
    watchdog.heard(106.0, frames=0)
    assert watchdog.problem(106.0, is_running=True) is None


def test_a_watcher_that_stood_still_itself_blames_nobody(watchdog):
    watchdog.heard(101.0, frames=25)
    watchdog.forgive(200.0)
    assert watchdog.problem(203.0, is_running=True) is None
    assert watchdog.problem(204.0, is_running=True) is not None


def test_an_answer_may_take_longer_while_a_game_loads():
    assert Watchdog.patience_s(False) > Watchdog.patience_s(True)
    assert Watchdog.patience_s(True) + 1 < 5, "a hang is to be noticed within 5 s"
