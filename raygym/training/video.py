"""What was played, as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np

from raygym.core import UInt8Array
from raygym.errors import ConfigError


class Video:
    """Writes pictures to an MP4 file; without a path it does nothing.

    Args:
        path: The file, or None.
        fps: Pictures a second.
    """

    def __init__(self, path: Path | None, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None

    def add(self, env: gymnasium.Env[UInt8Array, Any]) -> None:
        """Adds what the environment shows now: uint8[H, W, 3], RGB."""
        if self._path is None:
            return
        picture = np.asarray(env.render())
        if self._writer is None:
            height, width = picture.shape[:2]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height)
            )
            if not self._writer.isOpened():
                raise ConfigError(f"--video {self._path}: no MP4 file can be written there")
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.release()
