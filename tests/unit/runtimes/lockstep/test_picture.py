from __future__ import annotations

import cv2
import numpy as np
import pytest
from gymnasium import spaces

from raygym.runtimes.lockstep.answers import Refused
from raygym.runtimes.lockstep.picture import PictureMaker, wants_pictures
from raygym.wire.proto import raygym_v1_pb2 as pb


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def space(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def make(image: np.ndarray, **fields: int) -> np.ndarray:
    maker = PictureMaker(pb.Picture(**fields), space(*image.shape))
    made = maker.make(image)
    assert maker.space.contains(made)
    return made


def test_a_crop_is_a_part_of_the_picture():
    image = noise(10, 12, 3)
    made = make(image, crop_x=2, crop_y=3, crop_width=5, crop_height=4)
    assert (made == image[3:7, 2:7]).all()


def test_grey_is_luma_with_one_channel():
    image = noise(10, 12, 3)
    assert (make(image, is_grey=True)[..., 0] == cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).all()


@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 1)])
def test_what_is_grey_already_gets_its_channel(shape):
    image = noise(*shape)
    assert (make(image, is_grey=True) == image.reshape(10, 12, 1)).all()


def test_crop_grey_and_scale_happen_in_this_order():
    image = noise(40, 40, 3)
    made = make(
        image, crop_x=4, crop_y=8, crop_width=32, crop_height=16, is_grey=True, width=8, height=4
    )
    grey = cv2.cvtColor(image[8:24, 4:36], cv2.COLOR_RGB2GRAY)
    assert (made[..., 0] == cv2.resize(grey, (8, 4), interpolation=cv2.INTER_AREA)).all()


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (12,)])
def test_any_number_of_channels_is_scaled(channels):
    assert make(noise(20, 30, *channels), width=15, height=10).shape == (10, 15, *channels)


def test_one_side_alone_is_scaled_too():
    assert make(noise(20, 30, 3), width=15).shape == (20, 15, 3)


@pytest.mark.parametrize(
    ("shape", "fields", "words"),
    [
        ((10, 10, 3), {"crop_width": 11, "crop_height": 2}, "column 11"),
        ((10, 10, 3), {"crop_y": 9, "crop_width": 2, "crop_height": 2}, "row 11"),
        ((10, 10, 3), {"crop_width": 2}, "both"),
        ((10, 10, 2), {"is_grey": True}, "channels"),
        ((10, 10, 3), {"width": 100000}, "at most"),
        ((10,), {"width": 3}, "is a picture"),
        ((10, 10, 3, 3), {"width": 3}, "is a picture"),
    ],
)
def test_what_does_not_fit_is_refused(shape, fields, words):
    with pytest.raises(Refused, match=words) as refused:
        PictureMaker(pb.Picture(**fields), space(*shape))
    assert refused.value.code == pb.Error.INVALID_ARGUMENT


def test_floats_are_no_picture():
    with pytest.raises(Refused, match="uint8"):
        PictureMaker(pb.Picture(is_grey=True), spaces.Box(0, 1, (4, 4, 3)))


def test_an_empty_wish_is_none():
    assert not wants_pictures(pb.Picture(crop_x=3))
    assert wants_pictures(pb.Picture(height=3))
