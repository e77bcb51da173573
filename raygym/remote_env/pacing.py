"""When a step returns: a steady rate, locked to the phase of the arriving frames. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raygym.config import check_range
from raygym.errors import ConfigError

_PHASE_GAIN = 0.1
"""Share of the distance between deadline and frame that moves the next deadline."""


@dataclass(frozen=True)
class StepWindow:
    """When one step may return, in seconds of the caller's clock."""

    opens_s: float
    """A frame that arrives from here on ends the step."""
    deadline_s: float
    """When the step should end."""
    closes_s: float
    """The step ends here without a new frame."""


class Pacer:
    """Plans the steps of one environment.

    Each step ends at the first frame that arrives within half a frame period of its
    deadline, so that its observation is fresh; the schedule follows the frames' phase.
    After a stall the schedule starts anew from there: missed steps are not caught up.

    Args:
        fps: Steps a second; ``math.inf`` ends each step at the next frame.
        frame_fps: Frames a second that the environment shows.

    Raises:
        ConfigError: A rate is not positive.
    """

    def __init__(self, fps: float, frame_fps: float) -> None:
        if not fps > 0:
            raise ConfigError(f"fps: expected more than 0 (math.inf: every frame), got {fps!r}")
        check_range("Pacer", "frame_fps", frame_fps, 0.1, 1000)
        self._period_s = 0.0 if math.isinf(fps) else 1 / fps
        self._frame_s = 1 / frame_fps
        self._next_s: float | None = None

    def start(self, now_s: float) -> None:
        """Begins a schedule: the first step is due one period from now."""
        self._next_s = now_s + self._period_s

    def window(self, now_s: float) -> StepWindow:
        """Returns when the step that begins now may end."""
        if self._next_s is None:
            self.start(now_s)
        assert self._next_s is not None  # noqa: S101  for the type checker
        if self._next_s + self._frame_s < now_s:
            self._next_s = now_s
        return StepWindow(
            opens_s=self._next_s - self._frame_s / 2,
            deadline_s=self._next_s,
            closes_s=max(self._next_s, now_s) + self._frame_s,
        )

    def finish(self, now_s: float, arrived_s: float | None) -> None:
        """Plans the next step.

        Args:
            now_s: The time now.
            arrived_s: When the frame that ended the step arrived; None if it ended without.
        """
        if self._period_s == 0.0 or self._next_s is None:
            self._next_s = now_s
            return
        shift_s = 0.0
        if arrived_s is not None:
            half_s = min(self._frame_s, self._period_s) / 2
            shift_s = _PHASE_GAIN * min(max(arrived_s - self._next_s, -half_s), half_s)
        self._next_s = max(self._next_s + self._period_s + shift_s, now_s + self._period_s / 2)
