"""Counts what the slots of one actor do, for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import ray

from raygym.core import OUTCOMES, Outcome
from raygym.service.metrics.recorder import Recorder
from raygym.service.metrics.specs import CLAIM_LATENCY, LAGS, RELAUNCH_CAUSES, STATES, STEP_LATENCY
from raygym.service.reports import EpisodeRecord, SamplerReport
from raygym.service.spectators import Int64Array, Show

_COUNTS = {
    "vnc_updates": "raygym_frames",
    "vnc_bytes": "raygym_received",
    "vnc_pixels": "raygym_pixels",
    "vnc_decode_s": "raygym_decode_seconds",
}
"""Metrics by the name in ``SamplerReport.counts``."""


class Meters:
    """A Spectator that counts. Safe to use from several threads.

    Args:
        recorder: Takes the counts; its tags are those of an actor.
        is_realtime: Whether remotes have screens, and so lags.
    """

    def __init__(self, recorder: Recorder, *, is_realtime: bool) -> None:
        self._recorder = recorder
        self._is_realtime = is_realtime
        self._lock = threading.Lock()
        self._states: dict[int, str] = {}
        self._start_failures: dict[int, int] = {}
        self._had_remote: set[int] = set()
        self._begin()

    @classmethod
    def open(cls, show: Show, actor: str) -> Meters:
        """Makes those of an actor of a run; for ``Show.opens``.

        Args:
            show: The run.
            actor: Its name; metrics do not bear it, as its slots tell as much.
        """
        del actor
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        tags = {"run": show.run, "env": show.env_id, "runtime": show.runtime, "node": node}
        return cls(Recorder(tags), is_realtime=show.mode == "realtime")

    def stepped(self, slots: Int64Array, observations: npt.NDArray[Any], step_s: float) -> None:
        """Counts how long the step took; see ``Spectator``."""
        del observations
        if step_s > 0.0:
            self._recorder.time_alike(STEP_LATENCY, step_s, len(slots))
        if self._recorder.is_due:
            self.flush()

    def ended(self, record: EpisodeRecord) -> None:
        """Counts an episode and its score; see ``Spectator``."""
        slot = str(record.slot)
        self._recorder.add("raygym_episodes", 1.0, slot, str(record.outcome))
        if record.outcome is Outcome.OK:
            self._recorder.add("raygym_score_gained", max(0.0, record.score), slot)
            self._recorder.add("raygym_score_lost", max(0.0, -record.score), slot)
            self._recorder.set("raygym_last_score", record.score, slot)

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        """Counts what reports hold; see ``Spectator``."""
        for report in reports:
            self._note(report)
        if self._recorder.is_due:
            self.flush()

    def flush(self) -> None:
        """Hands everything to Ray."""
        with self._lock:
            states = list(self._states.values())
        for state in STATES:
            self._recorder.set("raygym_slots", float(states.count(state)), state)
        self._recorder.flush()

    def close(self) -> None:
        """Hands over what is left; the slots are no more then. May be called twice."""
        with self._lock:
            self._states.clear()
        self.flush()

    def _begin(self) -> None:
        """Has the series begin at 0 that do not come with the slots."""
        add = self._recorder.add
        add("raygym_fabricated_zeros", 0.0)
        self._recorder.time(STEP_LATENCY, ())
        for cause in RELAUNCH_CAUSES:
            add("raygym_relaunches", 0.0, cause)
        if self._is_realtime:
            for name in _COUNTS.values():
                add(name, 0.0)

    def _begin_slot(self, slot: str) -> None:
        recorder = self._recorder
        for name in ("env_steps", "score_gained", "score_lost", "start_failures"):
            recorder.add(f"raygym_{name}", 0.0, slot)
        for outcome in OUTCOMES:
            recorder.add("raygym_episodes", 0.0, slot, str(outcome))
        recorder.time(CLAIM_LATENCY, (), slot)
        if self._is_realtime:
            for timing in LAGS.values():
                recorder.time(timing, (), slot)

    def _note(self, report: SamplerReport) -> None:
        recorder, slot = self._recorder, str(report.slot)
        with self._lock:
            is_new = report.slot not in self._states
            self._states[report.slot] = report.state
            failures_before = self._start_failures.get(report.slot, 0)
            self._start_failures[report.slot] = report.start_failures
        if is_new:
            self._begin_slot(slot)
        recorder.add("raygym_env_steps", float(report.steps), slot)
        failures = report.start_failures - failures_before
        if failures < 0:
            failures = report.start_failures
        recorder.add("raygym_start_failures", float(failures), slot)
        for name, timing in LAGS.items():
            times_ms = report.times_ms.get(name)
            if times_ms:
                # Skew between two clocks can make a lag seem a little negative.
                recorder.time(timing, [max(0.0, one) / 1000 for one in times_ms], slot)
        for name, metric in _COUNTS.items():
            if name in report.counts:
                recorder.add(metric, report.counts[name])
        if report.claims:
            recorder.time(CLAIM_LATENCY, [claim.seconds for claim in report.claims], slot)
            self._note_relaunches(report)
        recorder.add("raygym_fabricated_zeros", float(report.fabricated_zeros))

    def _note_relaunches(self, report: SamplerReport) -> None:
        for claim in report.claims:
            had_one = report.slot in self._had_remote
            self._had_remote.add(report.slot)
            # One whose environment was made anew cannot tell what became of the Remote before.
            causes = claim.causes or (("remade",) if had_one else ())
            for cause in causes:
                if cause in RELAUNCH_CAUSES:
                    self._recorder.add("raygym_relaunches", 1.0, cause)
