"""What becomes of observations that are pictures: crop, grey, scale."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium
import numpy as np

from raygym.core import UInt8Array
from raygym.runtimes.lockstep.answers import Refused, refused
from raygym.wire.proto import raygym_v1_pb2 as pb

# At these sizes OpenCV's threads double the CPU time and save none of the wall time.
cv2.setNumThreads(1)

_GREY = {3: cv2.COLOR_RGB2GRAY, 4: cv2.COLOR_RGBA2GRAY}
_MAX_SIDE_PX = 8192


class PictureMaker:
    """Crops, greys and scales observations, in this order.

    Args:
        picture: What is wanted.
        space: Of the observations as they come: uint8[H, W] or uint8[H, W, C].

    Raises:
        Refused: The observations are no pictures, or what is wanted does not fit them.
    """

    def __init__(self, picture: pb.Picture, space: gymnasium.Space[Any]) -> None:
        if not (
            isinstance(space, gymnasium.spaces.Box)
            and space.dtype == np.uint8
            and len(space.shape) in (2, 3)
        ):
            raise _refused(f"only a Box uint8[H, W] or uint8[H, W, C] is a picture, not {space}")
        self._rows, self._columns = _crop(picture, space.shape)
        height = self._rows.stop - self._rows.start
        width = self._columns.stop - self._columns.start
        channels = space.shape[2:]
        self._grey = None
        self._is_grey = picture.is_grey
        if picture.is_grey:
            if channels and channels[0] not in (1, *_GREY):
                raise _refused(f"is_grey needs 1, 3 or 4 channels, not those of {space}")
            self._grey = _GREY.get(channels[0]) if channels else None
            channels = (1,)
        self._size = (picture.width or width, picture.height or height)
        if max(self._size) > _MAX_SIDE_PX:
            raise _refused(f"width and height: at most {_MAX_SIDE_PX}, not {self._size}")
        self._is_scaled = self._size != (width, height)
        self._shape = (self._size[1], self._size[0], *channels)
        low, high = int(space.low.min()), int(space.high.max())
        self.space = gymnasium.spaces.Box(low, high, self._shape, np.uint8)
        """Of the observations that are made."""

    def make(self, observation: UInt8Array) -> UInt8Array:
        """Makes one observation, as ``space`` says; it may be a view of what was given."""
        image = np.asarray(observation)[self._rows, self._columns]
        if self._grey is not None:
            image = np.asarray(cv2.cvtColor(image, self._grey), np.uint8)
        if self._is_scaled:
            image = _scaled(image, self._size)
        return image.reshape(self._shape)


def wants_pictures(picture: pb.Picture) -> bool:
    """Whether anything is asked for at all."""
    return bool(
        picture.crop_width
        or picture.crop_height
        or picture.is_grey
        or picture.width
        or picture.height
    )


def _crop(picture: pb.Picture, shape: tuple[int, ...]) -> tuple[slice, slice]:
    if bool(picture.crop_width) != bool(picture.crop_height):
        raise _refused("give both crop_width and crop_height or neither")
    height, width = shape[:2]
    if not picture.crop_width:
        return slice(0, height), slice(0, width)
    bottom = picture.crop_y + picture.crop_height
    right = picture.crop_x + picture.crop_width
    if bottom > height or right > width:
        raise _refused(
            f"the crop ends at column {right} and row {bottom}, and the observation is "
            f"{width} wide and {height} high"
        )
    return slice(picture.crop_y, bottom), slice(picture.crop_x, right)


def _scaled(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _refused(why: str) -> Refused:
    return refused(pb.Error.INVALID_ARGUMENT, f"picture: {why}")
