from __future__ import annotations

import numpy as np
import pytest

from raygym.catalog import Region
from raygym.config import ObservationConfig
from raygym.core import UInt8Array
from raygym.errors import ConfigError
from raygym.remote_env.observations import ObservationMaker


def picture(height: int, width: int, channels: int = 4) -> UInt8Array:
    generator = np.random.default_rng(7)
    return generator.integers(0, 256, (height, width, channels), np.uint8)


def test_without_a_config_the_region_comes_as_it_is() -> None:
    maker = ObservationMaker(Region(0, 0, 8, 6), ObservationConfig())
    pixels = picture(6, 8)
    observation = maker.make(pixels)
    assert maker.space.contains(observation)
    np.testing.assert_array_equal(observation, pixels[:, :, :3])


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("size", [None, (3, 4)])
def test_an_observation_is_new_memory_and_lies_in_its_space(
    channels: int, is_grey: bool, size: tuple[int, int] | None
) -> None:
    height, width = size or (None, None)
    config = ObservationConfig(height_px=height, width_px=width, is_grey=is_grey)
    maker = ObservationMaker(Region(0, 0, 8, 6), config)
    pixels = picture(6, 8, channels)
    observation = maker.make(pixels)
    assert maker.space.contains(observation)
    assert not np.shares_memory(observation, pixels)
    before = observation.copy()
    pixels[:] = 0
    np.testing.assert_array_equal(observation, before)


def test_scaling_averages_whole_blocks() -> None:
    maker = ObservationMaker(Region(0, 0, 4, 4), ObservationConfig(height_px=2, width_px=2))
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :2, 0] = [[0, 40], [80, 120]]
    observation = maker.make(pixels)
    assert observation[0, 0, 0] == 60
    assert observation[1, 1].tolist() == [0, 0, 0]


def test_grey_is_luma_of_red_green_and_blue() -> None:
    maker = ObservationMaker(Region(0, 0, 3, 1), ObservationConfig(is_grey=True))
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, 0, 0] = pixels[0, 1, 1] = pixels[0, 2, 2] = 255
    assert maker.make(pixels)[0, :, 0].tolist() == [76, 150, 29]


def test_a_cut_from_a_larger_screen_is_read_in_place() -> None:
    maker = ObservationMaker(Region(2, 1, 4, 3), ObservationConfig(is_grey=True))
    screen = picture(10, 12)
    cut = screen[1:4, 2:6]
    np.testing.assert_array_equal(maker.make(cut), maker.make(cut.copy()))


def test_a_blank_observation_is_black_and_lies_in_the_space() -> None:
    maker = ObservationMaker(Region(0, 0, 4, 4), ObservationConfig(is_grey=True))
    blank = maker.blank()
    assert maker.space.contains(blank)
    assert not blank.any()


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_crop_is_a_part_of_the_region_taken_before_anything_else(is_grey: bool) -> None:
    config = ObservationConfig(crop=(2, 1, 4, 4), height_px=2, width_px=2, is_grey=is_grey)
    cropped = ObservationMaker(Region(100, 50, 8, 6), config)
    alone = ObservationMaker(
        Region(0, 0, 4, 4), ObservationConfig(height_px=2, width_px=2, is_grey=is_grey)
    )
    pixels = picture(6, 8)
    assert cropped.space == alone.space
    np.testing.assert_array_equal(
        cropped.make(pixels), alone.make(np.ascontiguousarray(pixels[1:5, 2:6]))
    )


def test_a_crop_alone_keeps_its_size() -> None:
    maker = ObservationMaker(Region(0, 0, 8, 6), ObservationConfig(crop=(3, 0, 5, 2)))
    pixels = picture(6, 8)
    observation = maker.make(pixels)
    assert maker.space.contains(observation)
    np.testing.assert_array_equal(observation, pixels[:2, 3:, :3])
    assert not np.shares_memory(observation, pixels)


@pytest.mark.parametrize("crop", [(4, 0, 5, 6), (0, 1, 8, 6)])
def test_a_crop_beyond_the_region_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="beyond the picture, which is 8 wide and 6 high"):
        ObservationMaker(Region(0, 0, 8, 6), ObservationConfig(crop=crop))
