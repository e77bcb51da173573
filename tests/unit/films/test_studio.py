from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from raygym.core import Outcome
from raygym.films import studio as film_studio
from raygym.films.shelf import read_films, write_sheet
from raygym.films.studio import FilmStudio, Take
from raygym.films.writer import FilmWriter, frames
from raygym.service.reports import EpisodeRecord

TIMEOUT_S = 60.0


def take(directory: Path, slot: int = 0, second: int = 0, kept: int = 10) -> Take:
    return Take(
        directory=directory / "videos",
        env="test.Tiny-v0",
        run="r",
        slot=slot,
        fps=10.0,
        kept=kept,
        started_at=f"2026-01-01T00:00:{second:02d}.000Z",
    )


def record(slot: int = 0, outcome: Outcome = Outcome.OK, **fields) -> EpisodeRecord:
    base = {"score": 2.5, "steps": 4, "duration_s": 0.4, "reason": "", "episode": 7}
    return EpisodeRecord(**{"slot": slot, "outcome": outcome, **base, **fields})


def shoot(studio: FilmStudio, film: Take, count: int = 5) -> list[bool]:
    picture = np.full((12, 12, 1), 100, np.uint8)
    return [studio.shoot(film, picture, n / 10) for n in range(count)]


def test_an_episode_becomes_a_film_with_sheet_and_record(tmp_path: Path):
    studio, film = FilmStudio(), take(tmp_path)
    assert shoot(studio, film) == [True] * 5
    studio.end(film, record())
    assert studio.close(timeout_s=TIMEOUT_S)
    (found,) = read_films(film.directory)
    assert found.film == "slot-0-episode-000007.mp4"
    assert (found.score, found.steps, found.outcome, found.cut) == (2.5, 4, "ok", "")
    assert found.duration_s == pytest.approx(0.5)
    assert found.size_px == (360, 360)
    assert found.size_bytes == (film.directory / found.film).stat().st_size
    assert len(list(frames(film.directory / found.film))) == 5
    assert (film.directory / found.sheet).read_bytes().startswith(b"\x89PNG")
    assert len(list(film.directory.iterdir())) == 3


def test_a_film_cut_by_a_failure_says_so_in_its_name_and_record(tmp_path: Path):
    studio, film = FilmStudio(), take(tmp_path)
    shoot(studio, film)
    studio.end(film, record(outcome=Outcome.INFRA_FAILURE, reason="remote r-1 is gone"))
    studio.close(timeout_s=TIMEOUT_S)
    (found,) = read_films(film.directory)
    assert found.film == "slot-0-episode-000007-cut-infra_failure.mp4"
    assert (found.cut, found.reason) == ("infra_failure", "remote r-1 is gone")


def test_a_film_cut_by_the_end_of_the_run_says_so_too(tmp_path: Path):
    studio, film = FilmStudio(), take(tmp_path)
    shoot(studio, film)
    studio.end(film, None, why="run_ended")
    studio.close(timeout_s=TIMEOUT_S)
    (found,) = read_films(film.directory)
    assert found.film == "slot-0-20260101T000000000Z-cut-run_ended.mp4"
    assert (found.episode, found.score, found.outcome) == (None, None, "")


def test_vectors_are_filmed_as_traces(tmp_path: Path):
    studio, film = FilmStudio(), take(tmp_path)
    for n in range(4):
        studio.shoot(film, np.array([n, -n], np.float32), n / 10)
    studio.end(film, record())
    studio.close(timeout_s=TIMEOUT_S)
    (found,) = read_films(film.directory)
    assert (found.shows, found.size_px) == ("vector", (640, 480))


def test_two_slots_can_be_filmed_at_once(tmp_path: Path):
    studio, films = FilmStudio(), [take(tmp_path, slot) for slot in (0, 1)]
    for n in range(3):
        for film in films:
            studio.shoot(film, np.zeros((12, 12, 1), np.uint8), n / 10)
    for film in films:
        studio.end(film, record(film.slot))
    studio.close(timeout_s=TIMEOUT_S)
    assert [found.slot for found in read_films(films[0].directory)] == [0, 1]
    assert {found.steps for found in read_films(films[0].directory)} == {2}


def test_only_the_newest_and_the_best_stay(tmp_path: Path):
    studio = FilmStudio()
    for number, score in enumerate([5.0, 1.0, 2.0, 3.0]):
        film = take(tmp_path, second=number, kept=2)
        shoot(studio, film, 2)
        studio.end(film, record(score=score, episode=number))
    studio.close(timeout_s=TIMEOUT_S)
    assert [found.episode for found in read_films(take(tmp_path).directory)] == [0, 2, 3]


def test_a_film_is_dropped_and_nobody_waits_where_encoding_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    may_go_on = threading.Event()

    class SlowWriter(FilmWriter):
        def add(self, picture, *, at_s=None) -> None:
            assert may_go_on.wait(TIMEOUT_S)
            super().add(picture, at_s=at_s)

    monkeypatch.setattr(film_studio, "FilmWriter", SlowWriter)
    studio, film = FilmStudio(most_waiting_bytes=3 * 144), take(tmp_path)
    assert shoot(studio, film) == [True, True, True, False, False]
    may_go_on.set()
    next_film = take(tmp_path, second=1)
    while not studio.shoot(next_film, np.zeros((12, 12, 1), np.uint8), 0.0):
        pass
    studio.end(next_film, record(episode=8))
    assert studio.close(timeout_s=TIMEOUT_S)
    assert [found.episode for found in read_films(film.directory)] == [8]
    assert studio.dropped >= 2
    assert len(list(film.directory.iterdir())) == 3, "nothing is left of the one that was dropped"


def test_a_film_that_fails_ends_neither_the_thread_nor_the_next_film(tmp_path: Path):
    studio, bad, good = FilmStudio(), take(tmp_path), take(tmp_path, second=1)
    shoot(studio, bad, 2)
    studio.shoot(bad, np.zeros((12, 12, 1, 1, 1), np.uint8), 0.3)
    studio.end(bad, record())
    shoot(studio, good, 2)
    studio.end(good, record(episode=8))
    assert studio.close(timeout_s=TIMEOUT_S)
    assert [found.episode for found in read_films(good.directory)] == [8]


def test_what_a_dead_actor_left_is_completed_by_the_next(tmp_path: Path):
    film = take(tmp_path)
    dead = FilmStudio()
    shoot(dead, film, 60)
    dead.close(timeout_s=TIMEOUT_S)
    assert list(film.directory.glob("*.part.mp4"))
    studio, next_film = FilmStudio(), take(tmp_path, second=9)
    shoot(studio, next_film, 2)
    studio.end(next_film, record())
    studio.close(timeout_s=TIMEOUT_S)
    rescued, whole = read_films(film.directory)
    assert rescued.film == "slot-0-20260101T000000000Z-cut-actor_lost.mp4"
    assert (rescued.env, rescued.started_at) == ("test.Tiny-v0", film.started_at)
    assert (film.directory / rescued.sheet).is_file()
    assert whole.cut == ""


def test_a_studio_that_is_given_up_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    is_drawing, may_go_on = threading.Event(), threading.Event()

    def slowly(*arguments) -> None:
        is_drawing.set()
        assert may_go_on.wait(TIMEOUT_S)
        write_sheet(*arguments)

    monkeypatch.setattr(film_studio, "write_sheet", slowly)
    monkeypatch.setattr(film_studio, "_LAST_JOB_S", 0.0)
    studio, first, second = FilmStudio(), take(tmp_path), take(tmp_path, second=1)
    for film, episode in ((first, 7), (second, 8)):
        shoot(studio, film)
        studio.end(film, record(episode=episode))
    assert is_drawing.wait(TIMEOUT_S)
    assert not studio.close(timeout_s=0.0)
    may_go_on.set()
    monkeypatch.setattr(film_studio, "_LAST_JOB_S", TIMEOUT_S)
    studio.close(timeout_s=0.0)
    assert [film.episode for film in read_films(first.directory)] == [7]
    assert len(list(first.directory.iterdir())) == 3


def test_a_studio_that_filmed_nothing_has_no_thread():
    before = threading.active_count()
    studio = FilmStudio()
    assert studio.close(timeout_s=0.0)
    assert studio.close(timeout_s=0.0)
    assert threading.active_count() == before
