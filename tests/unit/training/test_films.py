from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.config import ObservationConfig
from raygym.errors import ConfigError
from raygym.films.shelf import read_films
from raygym.films.writer import PART, FilmWriter
from raygym.service.spectators import Show, Spectators
from raygym.training.config import FilmFlags
from raygym.training.films import complete_films, film_openers, steps_per_s
from tests.support.plans import tiny_plan


def test_a_film_runs_at_the_pace_of_the_environments_own_time():
    plan = tiny_plan()
    assert steps_per_s(plan) == 50
    assert steps_per_s(replace(plan, fps=12.5)) == 12.5
    assert steps_per_s(replace(plan, frame_skip=4)) == 12.5


def test_the_openers_hold_what_was_asked_for_and_open_in_an_actor(tmp_path: Path):
    flags = FilmFlags(every_episodes=3, every_minutes=0.5, slots=(1, 2), kept=4)
    (opener,) = pickle.loads(pickle.dumps(film_openers(flags, tiny_plan(), tmp_path)))
    (settings,) = opener.args
    assert settings.directory == tmp_path / "videos"
    assert (settings.every_episodes, settings.every_minutes) == (3, 0.5)
    assert (settings.slots, settings.kept, settings.channels) == ((1, 2), 4, 1)
    show = Show(run="r", env_id="e", runtime="catch", mode="lockstep", opens=(opener,))
    spectators = Spectators.of(show, actor="slot-0")
    assert spectators
    spectators.close()


def test_colours_are_filmed_as_colours():
    seen = ObservationConfig(height_px=12, width_px=12, is_grey=False)
    (opener,) = film_openers(FilmFlags(), replace(tiny_plan(), observation=seen), Path("x"))
    assert opener.args[0].channels == 3


@pytest.mark.parametrize(
    "flags",
    [FilmFlags(every_episodes=0, every_minutes=0.0), FilmFlags(slots=())],
)
def test_nobody_films_where_nothing_is_asked_for(flags: FilmFlags):
    assert film_openers(flags, tiny_plan(), Path("x")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("every_episodes", -1), ("every_minutes", -0.1), ("kept", 0), ("slots", (-1,))],
)
def test_flags_out_of_range_are_told(name: str, value: object):
    with pytest.raises(ConfigError, match=name):
        FilmFlags(**{name: value})


def test_films_that_the_end_of_the_run_cut_are_completed(tmp_path: Path):
    import numpy as np

    complete_films(tmp_path)
    writer = FilmWriter(tmp_path / "videos" / "slot-0-x.mp4", fps=10, comment='{"slot": 0}')
    for _ in range(90):
        writer.add(np.zeros((12, 12, 3), np.uint8))
    part = tmp_path / "videos" / f"slot-0-x{PART}"
    content = part.read_bytes()
    writer.discard()
    part.write_bytes(content)
    complete_films(tmp_path)
    (film,) = read_films(tmp_path / "videos")
    assert (film.film, film.cut) == ("slot-0-x-cut-run_ended.mp4", "run_ended")
