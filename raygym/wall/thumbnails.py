"""Makes small pictures of what an agent sees."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from raygym.core import UInt8Array
from raygym.wall.tiles import Picture

MOST_NUMBERS = 64
_QUALITY = 78
_LARGE_QUALITY = 92
_RGB = 3
_PICTURE_DIMENSIONS = 3


def newest_view(observation: npt.NDArray[Any], *, channels: int | None) -> npt.NDArray[Any] | None:
    """Returns the part of an observation that is shown, as a view.

    Args:
        observation: uint8[H, W, C], newest frame last, or [n] numbers.
        channels: Of one frame, 1 or 3; None guesses: 3 where they divide C.

    Returns:
        uint8[H, W, 1] or [H, W, 3], or [n]; None for what cannot be shown.
    """
    if observation.ndim == 1:
        return observation if 0 < observation.size <= MOST_NUMBERS else None
    if observation.dtype != np.uint8 or not observation.size:
        return None
    if observation.ndim == _PICTURE_DIMENSIONS - 1:
        return observation[:, :, None]
    if observation.ndim != _PICTURE_DIMENSIONS:
        return None
    if channels is None:
        channels = _RGB if observation.shape[2] % _RGB == 0 else 1
    return observation[:, :, -channels:]


def as_picture(
    slot: int, seen: npt.NDArray[Any], *, most_px: int, is_large: bool, age_s: float
) -> Picture:
    """Makes what ``newest_view`` returned a picture.

    Args:
        slot: Whose.
        seen: uint8[H, W, 1 or 3], or [n].
        most_px: Longest side; larger ones are scaled down.
        is_large: Whether somebody looks at it in full, so that it must be fine.
        age_s: How old it is.
    """
    if seen.ndim == 1:
        numbers = np.nan_to_num(seen.astype("<f4"))
        return Picture(slot=slot, kind="numbers", data=numbers.tobytes(), age_s=age_s)
    small = _scaled_down(seen, most_px)
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small),
        quality=_LARGE_QUALITY if is_large else _QUALITY,
        colorspace="RGB" if small.shape[2] == _RGB else "GRAY",
        colorsubsampling="444" if is_large else "420",
    )
    height_px, width_px = small.shape[:2]
    return Picture(
        slot=slot, kind="jpeg", data=data, width_px=width_px, height_px=height_px, age_s=age_s
    )


def _scaled_down(seen: UInt8Array, most_px: int) -> UInt8Array:
    height_px, width_px = seen.shape[:2]
    factor = most_px / max(height_px, width_px)
    if factor >= 1.0:
        return seen
    size = max(1, round(width_px * factor)), max(1, round(height_px * factor))
    small = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).reshape(size[1], size[0], seen.shape[2])
