from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from raygym.core import Outcome
from raygym.errors import ConfigError
from raygym.films.episodes import EpisodeFilms, FilmSettings
from raygym.films.shelf import read_films
from raygym.films.studio import FilmStudio, Take
from raygym.service.reports import EpisodeRecord
from raygym.service.spectators import Show, Spectators

SHOW = Show(run="r", env_id="test.Tiny-v0", runtime="catch", mode="lockstep")


class NoStudio:
    """Notes what it is told instead of filming."""

    def __init__(self) -> None:
        self.films: list[tuple[Take, list[np.ndarray], list[float]]] = []
        self.ends: list[tuple[Take, EpisodeRecord | None, str]] = []
        self.has_room = True
        self.closed = 0

    def shoot(self, take: Take, observation: np.ndarray, at_s: float) -> bool:
        if at_s == 0.0:
            self.films.append((take, [], []))
        self.films[-1][1].append(observation)
        self.films[-1][2].append(at_s)
        return self.has_room

    def end(self, take: Take, record: EpisodeRecord | None, *, why: str = "") -> None:
        self.ends.append((take, record, why))

    def close(self, *, timeout_s: float) -> bool:
        self.closed += 1
        return True


class Stage:
    """Plays episodes before a spectator, in a time of its own."""

    def __init__(self, mode: str = "lockstep", **settings) -> None:
        self.now_s = 100.0
        self.studio = NoStudio()
        base = {"directory": Path("unused"), "fps": 10.0, "least_gap_s": 0.0, "every_minutes": 0.0}
        self.films = EpisodeFilms(
            FilmSettings(**{**base, **settings}),
            Show(run="r", env_id="test.Tiny-v0", runtime="catch", mode=mode),
            studio=self.studio,  # type: ignore[arg-type]
            clock=lambda: self.now_s,
            now=lambda: datetime.fromtimestamp(self.now_s, UTC),
        )
        self.count = 0

    def step(self, slots: list[int], step_s: float, observations: np.ndarray | None = None) -> None:
        if observations is None:
            observations = np.arange(len(slots) * 16, dtype=np.uint8).reshape(-1, 2, 2, 4)
        self.films.stepped(np.array(slots), observations, step_s)

    def episode(self, slot: int = 0, steps: int = 3, took_s: float = 1.0) -> None:
        self.step([slot], 0.0)
        for _ in range(steps):
            self.now_s += took_s / steps
            self.step([slot], 0.01)
        self.films.ended(record(slot, self.count))
        self.count += 1

    @property
    def filmed(self) -> list[int]:
        return [end.episode for _, end, _ in self.studio.ends if end is not None]


def record(slot: int, episode: int) -> EpisodeRecord:
    return EpisodeRecord(
        slot=slot,
        score=1.0,
        steps=3,
        duration_s=1.0,
        outcome=Outcome.OK,
        reason="",
        episode=episode,
    )


def play(stage: Stage, episodes: int, **how) -> list[int]:
    for _ in range(episodes):
        stage.episode(**how)
    return stage.filmed


def test_the_first_and_every_nth_episode_are_filmed_whole():
    stage = Stage(every_episodes=3)
    assert play(stage, 8) == [0, 3, 6]
    assert [len(shown) for _, shown, _ in stage.studio.films] == [4, 4, 4]


def test_films_by_time_come_when_there_was_none_for_so_long():
    stage = Stage(every_episodes=0, every_minutes=1.0)
    assert play(stage, 10, took_s=25.0) == [3, 6, 9]


def test_both_schedules_hold_at_once():
    stage = Stage(every_episodes=5, every_minutes=1.0)
    assert play(stage, 9, took_s=25.0) == [0, 3, 5, 8]


def test_nothing_is_filmed_where_both_are_off():
    assert play(Stage(every_episodes=0, every_minutes=0.0), 5) == []


def test_a_film_that_was_due_too_soon_comes_as_soon_as_it_may():
    stage = Stage(every_episodes=2, least_gap_s=10.0)
    assert play(stage, 12, took_s=4.0) == [0, 3, 6, 9]


def test_only_the_chosen_slots_are_filmed_wherever_they_stand_in_the_batch():
    stage = Stage(every_episodes=1, slots=(7,))
    stage.step([3, 7, 5], 0.0)
    stage.step([5, 3], 0.01)
    stage.step([7], 0.01)
    stage.films.ended(record(3, 0))
    stage.films.ended(record(7, 0))
    ((take, shown, _),) = stage.studio.films
    assert take.slot == 7
    assert [picture[0, 0].tolist() for picture in shown] == [[19], [3]], "the newest channel"
    assert [end[1].slot for end in stage.studio.ends] == [7]


def test_what_is_handed_over_is_a_copy_of_the_newest_picture_alone():
    stage = Stage(every_episodes=1)
    seen = np.zeros((1, 2, 2, 4), np.uint8)
    stage.step([0], 0.0, seen)
    seen[:] = 9
    ((_, shown, _),) = stage.studio.films
    assert shown[0].shape == (2, 2, 1)
    assert shown[0].nbytes == shown[0].size
    assert (shown[0] == 0).all()
    assert shown[0].base is None


def test_in_lockstep_a_film_runs_at_the_pace_of_the_environment():
    stage = Stage(every_episodes=1, fps=10.0)
    stage.episode(steps=3, took_s=60.0)
    assert stage.studio.films[0][2] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_in_real_time_each_picture_stands_as_long_as_it_stood():
    stage = Stage(mode="realtime", every_episodes=1)
    stage.episode(steps=3, took_s=6.0)
    assert stage.studio.films[0][2] == pytest.approx([0.0, 2.0, 4.0, 6.0])


def test_two_pictures_of_one_moment_begin_no_second_film():
    stage = Stage(mode="realtime", every_episodes=1)
    stage.episode(steps=2, took_s=0.0)
    assert len(stage.studio.films) == 1


def test_a_film_without_room_is_given_up_and_the_next_one_tried():
    stage = Stage(every_episodes=1)
    stage.studio.has_room = False
    stage.episode()
    assert stage.filmed == []
    assert len(stage.studio.films[0][1]) == 1
    stage.studio.has_room = True
    assert play(stage, 1) == [1]


def test_an_episode_whose_end_nobody_heard_of_is_cut_when_the_next_begins():
    stage = Stage(every_episodes=1)
    stage.step([0], 0.0)
    stage.episode()
    assert stage.studio.ends[0][1:] == (None, "end_not_seen")
    assert stage.filmed == [0]


def test_closing_cuts_what_is_being_filmed_once():
    stage = Stage(every_episodes=1)
    stage.step([0], 0.0)
    stage.films.close()
    stage.films.close()
    assert [(end, why) for _, end, why in stage.studio.ends] == [(None, "run_ended")]
    assert stage.studio.closed == 1


def test_what_cannot_be_shown_is_not_filmed():
    stage = Stage(every_episodes=1)
    stage.step([0], 0.0, np.zeros((1, 500), np.float32))
    assert stage.studio.films == []


@pytest.mark.parametrize(
    ("name", "value"), [("fps", 0.0), ("kept", 0), ("every_episodes", -1), ("channels", 4)]
)
def test_settings_out_of_range_are_told(name: str, value: float):
    with pytest.raises(ConfigError, match=name):
        FilmSettings(**{"directory": Path("x"), "fps": 10.0, name: value})


def test_a_show_takes_it_into_an_actor_and_films_there(tmp_path: Path):
    settings = FilmSettings(directory=tmp_path / "videos", fps=10.0)
    opens: Callable = functools.partial(EpisodeFilms.open, settings)
    show = pickle.loads(pickle.dumps(Show(**{**vars(SHOW), "opens": (opens,)})))
    spectators = Spectators.of(show, actor="slot-0")
    for step in range(3):
        spectators.stepped(np.array([0]), np.zeros((1, 8, 8, 1), np.uint8), 0.01 * step)
    spectators.ended(record(0, 0))
    spectators.close()
    studio_done(tmp_path / "videos")
    (film,) = read_films(tmp_path / "videos")
    assert film.steps == 2


def studio_done(directory: Path) -> None:
    """Waits for threads of studios; closing waits for a moment only."""
    import threading

    for thread in threading.enumerate():
        if thread.name == "film-studio":
            thread.join(60.0)
    assert directory.is_dir()


def test_the_real_studio_fits(tmp_path: Path):
    settings = FilmSettings(directory=tmp_path, fps=10.0)
    films = EpisodeFilms(settings, SHOW, studio=FilmStudio())
    films.close()
    assert list(tmp_path.iterdir()) == []
