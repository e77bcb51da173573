"""A spectator that keeps what it sees; or one that fails at what it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.service.reports import EpisodeRecord, SamplerReport


class FakeSpectator:
    """Keeps everything.

    Args:
        fails_at: Name of a method that raises.
    """

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.frames: list[tuple[int, npt.NDArray[Any]]] = []
        self.step_s: list[float] = []
        self.records: list[EpisodeRecord] = []
        self.reports: list[SamplerReport] = []
        self.is_closed = False

    def stepped(
        self, slots: npt.NDArray[np.int64], observations: npt.NDArray[Any], step_s: float
    ) -> None:
        self._check("stepped")
        self.frames += [(slot, seen.copy()) for slot, seen in zip(slots, observations, strict=True)]
        self.step_s.append(step_s)

    def ended(self, record: EpisodeRecord) -> None:
        self._check("ended")
        self.records.append(record)

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        self._check("reported")
        self.reports += reports

    def close(self) -> None:
        self.is_closed = True
        self._check("close")

    def _check(self, method: str) -> None:
        if method == self.fails_at:
            raise RuntimeError(f"{method} was told to fail")
