"""Containers that end one after the other."""

from __future__ import annotations

import pytest

from raygym.remote_env.docker.crashes import MOST_DEATHS, WAIT_S, CrashCounter
from raygym.remote_env.docker.errors import ContainerDied, CrashLoop

DEATH = ContainerDied("it ended", remote_id="r-1", log="last words")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter(clock: Clock) -> CrashCounter:
    counter = CrashCounter(clock)
    for _ in range(MOST_DEATHS):
        counter.note("a", "wob", DEATH)
    return counter


def test_the_first_deaths_are_told_as_they_are(clock: Clock):
    counter = CrashCounter(clock)
    for _ in range(MOST_DEATHS - 1):
        counter.check("a", "wob")
        assert counter.note("a", "wob", DEATH) is DEATH


def test_the_last_death_makes_a_loop_of_them(clock: Clock):
    counter = CrashCounter(clock)
    found = [counter.note("a", "wob", DEATH) for _ in range(MOST_DEATHS)]
    assert isinstance(found[-1], CrashLoop)


def test_none_is_started_until_the_wait_is_over_and_then_one_is(counter, clock: Clock):
    clock.now_s += WAIT_S - 1
    with pytest.raises(CrashLoop, match="for another 1 s") as caught:
        counter.check("a", "wob")
    assert caught.value.log == "last words"
    clock.now_s += 1
    counter.check("a", "wob")


def test_one_that_dies_after_the_wait_begins_another(counter, clock: Clock):
    clock.now_s += WAIT_S
    assert isinstance(counter.note("a", "wob", DEATH), CrashLoop)
    with pytest.raises(CrashLoop):
        counter.check("a", "wob")


def test_one_that_listens_ends_the_count(counter):
    counter.forget("a")
    counter.check("a", "wob")
    assert counter.note("a", "wob", DEATH) is DEATH


def test_each_kind_is_counted_by_itself(counter):
    counter.check("b", "wob")
