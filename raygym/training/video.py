"""What was played, as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from raygym.core import UInt8Array
from raygym.films.writer import FilmWriter


class Video:
    """Writes pictures to an MP4 file; without a path it does nothing.

    Args:
        path: The file, or None; it appears when this is closed.
        fps: Pictures a second.

    Raises:
        ConfigError: No file can be written there.
    """

    def __init__(self, path: Path | None, fps: float) -> None:
        self._writer = None if path is None else FilmWriter(path, fps=fps, title=path.stem)

    def add(self, env: gymnasium.Env[UInt8Array, Any]) -> None:
        """Adds what the environment shows now: uint8[H, W, 3], RGB."""
        if self._writer is not None:
            self._writer.add(np.asarray(env.render()))

    def close(self) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.close()
