"""Screens into observations: crop, scale, grey. Pure."""

from __future__ import annotations

import cv2
import gymnasium
import numpy as np

from raygym.catalog import Region
from raygym.config import ObservationConfig
from raygym.core import UInt8Array
from raygym.errors import ConfigError

# At these sizes OpenCV's threads double the CPU time and save none of the wall time.
cv2.setNumThreads(1)


class ObservationMaker:
    """Turns pictures of a region into observations.

    Args:
        region: The part of the screen that is observed.
        config: Crop, scale and colours.

    Raises:
        ConfigError: The crop goes beyond the region.
    """

    def __init__(self, region: Region, config: ObservationConfig) -> None:
        self.region = region
        x, y, seen_width, seen_height = config.crop or (0, 0, region.width, region.height)
        if x + seen_width > region.width or y + seen_height > region.height:
            raise ConfigError(
                f"ObservationConfig.crop: {config.crop} goes beyond the picture, which is "
                f"{region.width} wide and {region.height} high"
            )
        self._seen = slice(y, y + seen_height), slice(x, x + seen_width)
        height = config.height_px or seen_height
        width = config.width_px or seen_width
        self._size = (width, height)
        self._is_scaled = self._size != (seen_width, seen_height)
        self._is_grey = config.is_grey
        shape = (height, width, 1 if config.is_grey else 3)
        self.space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        """The observation space: uint8[height, width, 1 or 3]."""

    def make(self, pixels: UInt8Array) -> UInt8Array:
        """Makes one observation.

        Args:
            pixels: uint8[region.height, region.width, 3 or 4], RGB; only the distance
                between rows may be larger than their content.

        Returns:
            A new array as ``space`` says; grey is luma (ITU-R 601).
        """
        has_padding = pixels.shape[2] == 4
        image = pixels[self._seen]
        if self._is_grey:
            code = cv2.COLOR_RGBA2GRAY if has_padding else cv2.COLOR_RGB2GRAY
            image = np.asarray(cv2.cvtColor(image, code), np.uint8)
        if self._is_scaled:
            scaled = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
            image = np.asarray(scaled, np.uint8)
        if self._is_grey:
            return image[:, :, None]
        if has_padding:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB), np.uint8)
        return image if self._is_scaled else image.copy()

    def blank(self) -> UInt8Array:
        """Returns a black observation, for a slot that has shown nothing yet."""
        return np.zeros(self.space.shape, np.uint8)
