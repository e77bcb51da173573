from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from raygym.wall.thumbnails import as_picture, newest_view


def frames(height: int, width: int, channels: int) -> np.ndarray:
    made = np.zeros((height, width, channels), np.uint8)
    made[:] = np.arange(channels, dtype=np.uint8)
    return made


@pytest.mark.parametrize(
    ("channels", "told", "shown"),
    [(1, None, [0]), (3, None, [0, 1, 2]), (4, None, [3]), (12, None, [9, 10, 11]), (3, 1, [2])],
    ids=["grey", "colour", "four grey frames", "four colour frames", "three grey frames"],
)
def test_the_newest_frame_of_a_stack_is_shown(channels, told, shown):
    seen = newest_view(frames(4, 5, channels), channels=told)

    assert seen.shape == (4, 5, len(shown))
    assert seen[0, 0].tolist() == shown


def test_a_picture_without_channels_is_grey():
    assert newest_view(np.zeros((4, 5), np.uint8), channels=None).shape == (4, 5, 1)


def test_few_numbers_are_shown_as_numbers():
    seen = newest_view(np.array([0.5, np.nan, -2.0]), channels=None)
    picture = as_picture(7, seen, most_px=64, is_large=False, age_s=0.0)

    assert (picture.slot, picture.kind) == (7, "numbers")
    assert np.frombuffer(picture.data, "<f4").tolist() == [0.5, 0.0, -2.0]


@pytest.mark.parametrize(
    "observation",
    [np.zeros(65), np.zeros(0), np.zeros((4, 4, 3)), np.zeros((2, 4, 4, 3), np.uint8)],
    ids=["too many numbers", "none", "floats", "several pictures"],
)
def test_what_cannot_be_shown_is_left_out(observation):
    assert newest_view(observation, channels=None) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_picture_is_scaled_down_and_keeps_its_shape(channels):
    picture = as_picture(0, frames(300, 400, channels), most_px=100, is_large=False, age_s=1.5)
    decoded = simplejpeg.decode_jpeg(picture.data)

    assert (picture.width_px, picture.height_px, picture.age_s) == (100, 75, 1.5)
    assert decoded.shape == (75, 100, 3)


def test_a_small_picture_is_not_scaled_up():
    picture = as_picture(0, frames(30, 40, 3), most_px=100, is_large=True, age_s=0.0)

    assert (picture.width_px, picture.height_px) == (40, 30)


def test_a_picture_of_another_layout_in_memory_is_taken_too():
    seen = newest_view(np.asfortranarray(frames(30, 40, 12)), channels=3)

    assert as_picture(0, seen, most_px=256, is_large=False, age_s=0.0).data[:2] == b"\xff\xd8"
