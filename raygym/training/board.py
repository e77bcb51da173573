"""TensorBoard's files, with the tags of universe-starter-agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord

MODEL_EVERY_S = 1.0
DIAGNOSTICS_EVERY_S = 10.0


class Board:
    """Writes ``model/...``, ``global/...`` and ``diagnostics/...`` against the step count.

    Args:
        directory: Where the files go.
        now_s: The time, in seconds of a steady clock.
    """

    def __init__(self, directory: Path, *, now_s: float) -> None:
        self._writer = SummaryWriter(str(directory), flush_secs=10)
        self._model_due_s = now_s
        self._diagnostics_since_s = now_s
        self._steps = 0
        self._times_ms: dict[str, list[float]] = {}
        self._counts: dict[str, float] = {}

    def note(self, report: ActorReport, *, env_steps: int, now_s: float) -> None:
        """Writes what an actor's report holds, each family of tags at its own pace."""
        for episode in report.sampler.episodes:
            self._write_episode(episode, env_steps)
        if report.has_gradient and now_s >= self._model_due_s:
            self._model_due_s = now_s + MODEL_EVERY_S
            for name, value in report.statistics.items():
                self._add(f"model/{name}", value, env_steps)
        self._steps += report.sampler.steps
        for name, times in report.sampler.times_ms.items():
            self._times_ms.setdefault(name, []).extend(times)
        for name, count in report.sampler.counts.items():
            self._counts[name] = self._counts.get(name, 0.0) + count
        if now_s - self._diagnostics_since_s >= DIAGNOSTICS_EVERY_S:
            self._write_diagnostics(env_steps, now_s)

    def close(self) -> None:
        """Writes what is left and closes the files."""
        self._writer.close()

    def _write_episode(self, episode: EpisodeRecord, env_steps: int) -> None:
        if episode.outcome is not Outcome.OK:
            return
        self._add("global/episode_reward", episode.score, env_steps)
        self._add("global/episode_length", episode.steps, env_steps)
        self._add("global/episode_time", episode.duration_s, env_steps)
        if episode.duration_s > 0:
            self._add("global/reward_per_time", episode.score / episode.duration_s, env_steps)

    def _write_diagnostics(self, env_steps: int, now_s: float) -> None:
        elapsed_s = now_s - self._diagnostics_since_s
        self._add("diagnostics/fps", self._steps / elapsed_s, env_steps)
        for name, times in self._times_ms.items():
            if times:
                self._add(f"diagnostics/{name}", float(np.median(times)), env_steps)
        for name, count in self._counts.items():
            self._add(f"diagnostics/{name}_per_s", count / elapsed_s, env_steps)
        self._diagnostics_since_s = now_s
        self._steps = 0
        self._times_ms.clear()
        self._counts.clear()

    def _add(self, tag: str, value: float, env_steps: int) -> None:
        self._writer.add_scalar(tag, value, env_steps)
