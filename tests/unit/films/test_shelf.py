from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from raygym.films.shelf import (
    FilmRecord,
    best_film,
    free_name,
    prune,
    read_films,
    rescue_films,
    write_record,
)
from raygym.films.writer import FilmWriter

RECORD = FilmRecord(
    film="slot-0-episode-000000.mp4",
    sheet="slot-0-episode-000000.png",
    env="test.Tiny-v0",
    run="r",
    slot=0,
    episode=0,
    score=1.0,
    steps=5,
    duration_s=0.5,
    outcome="ok",
    reason="",
    cut="",
    started_at="2026-01-01T00:00:00.000Z",
    size_px=(640, 480),
    size_bytes=3,
    shows="picture",
)


def put(directory: Path, number: int, **changes) -> FilmRecord:
    name = f"slot-{changes.get('slot', 0)}-episode-{number:06d}"
    record = replace(
        RECORD,
        film=f"{name}.mp4",
        sheet=f"{name}.png",
        episode=number,
        started_at=f"2026-01-01T00:00:{number:02d}.000Z",
        **changes,
    )
    (directory / record.film).write_bytes(b"mp4")
    (directory / record.sheet).write_bytes(b"png")
    write_record(directory, record)
    return record


def test_films_come_back_as_they_were_oldest_first(tmp_path: Path):
    records = [put(tmp_path, n, score=None if n == 1 else float(n)) for n in (2, 0, 1)]
    assert read_films(tmp_path) == sorted(records, key=lambda record: record.film)


def test_what_cannot_be_read_and_what_has_no_film_is_left_out(tmp_path: Path):
    kept = put(tmp_path, 0)
    gone = put(tmp_path, 1)
    (tmp_path / gone.film).unlink()
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("[]")
    assert read_films(tmp_path) == [kept]


def test_the_newest_and_the_best_stay(tmp_path: Path):
    for number, score in enumerate([1.0, 9.0, 2.0, 3.0, 4.0, 5.0]):
        put(tmp_path, number, score=score)
    put(tmp_path, 7, slot=1)
    prune(tmp_path, slot=0, keep=2)
    assert sorted(path.name for path in tmp_path.glob("slot-0-*.mp4")) == [
        "slot-0-episode-000001.mp4",
        "slot-0-episode-000004.mp4",
        "slot-0-episode-000005.mp4",
    ]
    assert len(list(tmp_path.glob("slot-0-*"))) == 9
    assert len(list(tmp_path.glob("slot-1-*"))) == 3


def test_an_episode_that_was_cut_is_never_the_best(tmp_path: Path):
    films = [
        put(tmp_path, 0, score=99.0, cut="infra_failure"),
        put(tmp_path, 1, score=None, cut="run_ended"),
        put(tmp_path, 2, score=3.0),
        put(tmp_path, 3, score=3.0),
    ]
    assert best_film(films) == films[3]
    assert best_film(films[:2]) is None


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path):
    assert free_name(tmp_path, "a") == "a"
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a-2.part.mp4").touch()
    assert free_name(tmp_path, "a") == "a-3"


@pytest.mark.parametrize("name", ["slot-0-x.part.mp4", "slot-0-x.mp4", "slot-0-x.png.7.tmp"])
def test_what_cannot_be_rescued_is_removed(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"no film")
    assert rescue_films(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_rescued_is_as_long_as_its_record_says(tmp_path: Path):
    # So uneven that most of it comes out of the encoder, which holds some pictures back.
    noise = np.random.default_rng(0)
    writer = FilmWriter(tmp_path / "slot-0-stamp.mp4", fps=60, comment='{"slot": 0, "fps": 60}')
    for number in range(40):
        writer.add(noise.integers(0, 256, (42, 42), dtype=np.uint8), at_s=0.06 * number)
    # Closes what was written so far, as the end of a process does.
    del writer
    (rescued,) = rescue_films(tmp_path)
    assert rescued.steps > 10
    with av.open(str(tmp_path / rescued.film)) as film:
        stream = film.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(
            rescued.duration_s, abs=0.001
        )


def test_a_film_whose_writer_died_before_its_record_is_rescued(tmp_path: Path):
    recorded = put(tmp_path, 3)
    writer = FilmWriter(tmp_path / "slot-0-stamp.mp4", fps=10, comment='{"env": "a", "slot": 0}')
    for _ in range(4):
        writer.add(np.zeros((12, 12, 1), np.uint8))
    writer.close()
    (rescued,) = rescue_films(tmp_path, cut="run_ended", reason="")
    assert (rescued.film, rescued.steps) == ("slot-0-stamp-cut-run_ended.mp4", 3)
    assert (tmp_path / rescued.sheet).read_bytes().startswith(b"\x89PNG")
    assert {film.film for film in read_films(tmp_path)} == {rescued.film, recorded.film}
    assert len(list(tmp_path.iterdir())) == 6
