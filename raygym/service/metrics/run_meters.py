"""Counts what a run learns, in the process that drives it, for Prometheus."""

from __future__ import annotations

from raygym.service.metrics.recorder import Recorder
from raygym.service.reports import WEIGHTS_LAG, ActorReport
from raygym.service.spectators import Show


class RunMeters:
    """The counts of one run. Not for two threads at once.

    Args:
        show: The run.
        recorder: Takes the counts; None for one of its own.
    """

    def __init__(self, show: Show, recorder: Recorder | None = None) -> None:
        tags = {"run": show.run, "env": show.env_id, "runtime": show.runtime}
        self._recorder = recorder or Recorder(tags)
        for name in ("learner_updates", "weights_lag_sum", "weights_lag_count", "slots_cut_off"):
            self._recorder.add(f"raygym_{name}", 0.0)

    def note(self, report: ActorReport) -> None:
        """Counts the update that an actor's report tells of, if it tells of one."""
        if report.has_gradient:
            self._recorder.add("raygym_learner_updates")
            if WEIGHTS_LAG in report.statistics:
                self._recorder.add("raygym_weights_lag_sum", report.statistics[WEIGHTS_LAG])
                self._recorder.add("raygym_weights_lag_count")
        self._recorder.flush_if_due()

    def note_lost(self) -> None:
        """Counts a slot whose actor ended by itself."""
        self._recorder.add("raygym_slots_cut_off")
        self._recorder.flush_if_due()

    def close(self) -> None:
        """Hands over what is left; may be called twice."""
        self._recorder.flush()
