from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from raygym.errors import ConfigError
from raygym.films.writer import PART, FilmWriter, enlarged, frames, rescue


def red(height: int = 48, width: int = 64) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 200, 60
    return picture


def write(path: Path, *shown: np.ndarray, fps: float = 12.5, **options) -> FilmWriter:
    writer = FilmWriter(path, fps=fps, **options)
    for picture in shown:
        writer.add(picture)
    writer.close()
    return writer


def test_a_film_is_h264_in_yuv420p_with_its_index_in_front(tmp_path: Path):
    path = tmp_path / "new" / "a.mp4"
    write(path, *[red()] * 25, title="Neon", comment='{"slot": 3}')
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert stream.average_rate == 12.5
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0)
        assert film.metadata["title"] == "Neon"
        assert film.metadata["comment"] == '{"slot": 3}'
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_colours_come_back_as_they_were(tmp_path: Path):
    write(tmp_path / "a.mp4", *[red()] * 3)
    shown = [picture for _, picture in frames(tmp_path / "a.mp4")]
    assert len(shown) == 3
    assert np.abs(shown[1].astype(int) - (200, 60, 0)).max() <= 4


@pytest.mark.parametrize(
    ("size", "film_px"),
    [
        ((48, 64), (512, 384)),
        ((72, 96), (480, 360)),
        ((601, 799), (800, 602)),
        ((7, 5), (256, 358)),
    ],
)
def test_small_pictures_are_enlarged_and_sizes_are_even(tmp_path: Path, size, film_px):
    writer = write(tmp_path / "a.mp4", red(*size))
    assert writer.size_px == film_px
    height, width = next(frames(tmp_path / "a.mp4"))[1].shape[:2]
    assert (width, height) == film_px


def test_pictures_can_stay_as_small_as_they_are(tmp_path: Path):
    assert write(tmp_path / "a.mp4", red(), least_height_px=0).size_px == (64, 48)


def test_enlarging_makes_squares_of_pixels_and_grey_of_one_channel():
    picture = np.array([[0, 255]], np.uint8)
    large = enlarged(picture, 3)
    assert large.shape == (3, 6, 3)
    assert (large[:, :3] == 0).all()
    assert (large[:, 3:] == 255).all()
    assert enlarged(picture[..., None], 1).shape == (1, 2, 3)


def test_pictures_stand_as_long_as_they_stood(tmp_path: Path):
    writer = FilmWriter(tmp_path / "a.mp4", fps=10)
    for at_s in (0.0, 0.1, 0.75, 0.75, 2.0):
        writer.add(red(), at_s=at_s)
    writer.close()
    times = [time_s for time_s, _ in frames(tmp_path / "a.mp4")]
    assert times == pytest.approx([0.0, 0.1, 0.75, 0.75, 2.0], abs=0.001)
    assert times == sorted(set(times))


def test_a_film_without_pictures_is_no_file(tmp_path: Path):
    writer = FilmWriter(tmp_path / "a.mp4", fps=10)
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        writer.add(red())


def test_a_film_that_is_discarded_leaves_nothing(tmp_path: Path):
    writer = FilmWriter(tmp_path / "a.mp4", fps=10)
    writer.add(red())
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no film can be written there"):
        FilmWriter(tmp_path / "file" / "a.mp4", fps=10)


def unfinished(directory: Path, frames: int = 120) -> Path:
    """Returns what a writer leaves that was killed: it never closes."""
    random = np.random.default_rng(0)
    writer = FilmWriter(directory / "a.mp4", fps=10, comment="mine", least_height_px=0)
    for _ in range(frames):
        writer.add(random.integers(0, 255, (40, 40, 3), np.uint8))
    part = directory / f"a{PART}"
    assert part.is_file()
    saved = part.read_bytes()
    writer.discard()
    part.write_bytes(saved)
    return part


def test_what_a_dead_writer_left_becomes_a_film(tmp_path: Path):
    part = unfinished(tmp_path)
    assert rescue(part, tmp_path / "b.mp4") == "mine"
    assert 20 < len(list(frames(tmp_path / "b.mp4"))) <= 120
    assert not part.exists()


def test_it_may_be_cut_anywhere(tmp_path: Path):
    content = unfinished(tmp_path).read_bytes()
    part, film = tmp_path / f"a{PART}", tmp_path / "b.mp4"
    counts = []
    for share in (0.0, 0.001, 0.4, 0.7, 0.99):
        part.write_bytes(content[: int(share * len(content))])
        comment = rescue(part, film)
        assert not part.exists()
        assert film.exists() == (comment is not None)
        counts.append(len(list(frames(film))) if comment is not None else 0)
        film.unlink(missing_ok=True)
    assert counts[:2] == [0, 0]
    assert 0 < counts[2] < counts[3] < counts[4]
