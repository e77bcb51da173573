"""Writes down a run as it goes, for curves and the report: three files in its logdir.

``run.json``: what was run, with what, on what, and what came of it. ``episodes.csv``: a row an
episode. ``progress.jsonl``: an object each few seconds. A resumed run is a further part of the
same files. ``record_reading`` reads them; docs/training.md describes them.
"""

from __future__ import annotations

import contextlib
import csv
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raygym.service.reports import ActorReport, EpisodeRecord
from raygym.training.accounts import Accounts, percentiles
from raygym.training.config import TrainConfig
from raygym.training.files import write_json
from raygym.training.films import steps_per_s
from raygym.training.plan import Plan
from raygym.training.provenance import command, machine, plain, versions

RUN, EPISODES, PROGRESS = "run.json", "episodes.csv", "progress.jsonl"
FORMAT = 1
PROGRESS_EVERY_S = 5.0
EPISODE_COLUMNS = (
    "part",
    "at",
    "minutes",
    "env_steps",
    "slot",
    "episode",
    "score",
    "steps",
    "duration_s",
    "outcome",
    "reason",
    "remote_id",
    "lease_id",
    "node",
)
_MOST_TIMES = 20_000
_FLUSH_EVERY_S = 1.0


class Sample:
    """A bounded, uniform sample of many numbers (Vitter's algorithm R), for percentiles.

    Args:
        most: Size of the sample.
    """

    def __init__(self, most: int = _MOST_TIMES) -> None:
        self._most = most
        self._random = random.Random(0)  # noqa: S311
        self.count = 0
        """How many numbers there were."""
        self.numbers: list[float] = []

    def add(self, numbers: Sequence[float]) -> None:
        """Takes numbers in."""
        for number in numbers:
            self.count += 1
            if len(self.numbers) < self._most:
                self.numbers.append(number)
            elif (place := self._random.randrange(self.count)) < self._most:
                self.numbers[place] = number

    def summary(self) -> dict[str, float | int | None]:
        """Returns ``p50``, ``p95``, ``p99`` and ``count``."""
        return {**percentiles(self.numbers, (50, 95, 99)), "count": self.count}


class RunRecord:
    """The files of one part of a run: from its start, or its --resume, to its end.

    Args:
        logdir: Where they go.
        config: Settings of the run.
        plan: Its environment.
        now_s: The time, in seconds of a steady clock.
        at: The same, UTC.
    """

    def __init__(
        self, logdir: Path, config: TrainConfig, plan: Plan, *, now_s: float, at: datetime
    ) -> None:
        self._path = logdir / RUN
        self._num_slots = plan.workers
        self._since_s = self._flushed_s = now_s
        self._started = at, now_s
        self._steps = 0
        self._has_begun = False
        self._window_ms: dict[str, list[float]] = {}
        self._times_ms: dict[str, Sample] = {}
        self._counts: dict[str, float] = {}
        self._learner: dict[str, list[float]] = {}
        earlier = _earlier_parts(self._path)
        self._part = len(earlier) + 1
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "env": plan.spec.id,
            "title": plan.spec.title,
            "parts": [*earlier, {**_describe(config, plan), "started_at": _iso(at)}],
        }
        # Open for as long as the run goes; closed by close.
        self._episodes = (logdir / EPISODES).open("a", encoding="utf-8", newline="")
        self._progress = (logdir / PROGRESS).open("a", encoding="utf-8")
        self._rows = csv.writer(self._episodes, lineterminator="\n")
        if self._episodes.tell() == 0:
            self._rows.writerow(EPISODE_COLUMNS)
        self._episodes.flush()
        write_json(self._path, self._content)

    def note(self, report: ActorReport, accounts: Accounts, now_s: float) -> None:
        """Writes down what an actor's report holds.

        Args:
            report: It.
            accounts: Of the run, with this report in.
            now_s: The time.
        """
        sampler = report.sampler
        for episode in sampler.episodes:
            self._write_episode(episode, accounts, now_s)
        if self._has_begun:
            self._steps += sampler.steps
        elif sampler.steps:
            # Nobody knows since when these were played: the first window begins after them.
            self._has_begun = True
            self._since_s = now_s
        for name, times in sampler.times_ms.items():
            self._window_ms.setdefault(name, []).extend(times)
            self._times_ms.setdefault(name, Sample()).add(times)
        for name, count in sampler.counts.items():
            self._counts[name] = self._counts.get(name, 0.0) + count
        if report.has_gradient:
            for name, value in report.statistics.items():
                self._learner.setdefault(name, []).append(float(value))
        if self._has_begun and now_s - self._since_s >= PROGRESS_EVERY_S:
            self._write_progress(accounts, now_s)
        if now_s - self._flushed_s >= _FLUSH_EVERY_S:
            self._flushed_s = now_s
            self._episodes.flush()

    def save(self, summary: Mapping[str, Any], **more: Any) -> None:
        """Brings ``run.json`` up to date.

        Args:
            summary: What came of the run so far.
            **more: Further entries of this part.
        """
        self._episodes.flush()
        self._progress.flush()
        part = self._content["parts"][-1]
        times_ms = {name: sample.summary() for name, sample in self._times_ms.items()}
        part.update(summary=plain(dict(summary)), times_ms=times_ms, **more)
        write_json(self._path, self._content)

    def close(
        self, accounts: Accounts, summary: Mapping[str, Any], *, ended_by: str, now_s: float
    ) -> None:
        """Writes down the end; may be called twice.

        Args:
            accounts: Of the run.
            summary: What came of it.
            ended_by: Why it ended, for a person.
            now_s: The time.
        """
        if self._episodes.closed:
            return
        if self._steps:
            self._write_progress(accounts, now_s)
        self.save(summary, ended_by=plain(ended_by), ended_at=_iso(self._at(now_s)))
        self._episodes.close()
        self._progress.close()

    def _at(self, now_s: float) -> datetime:
        at, started_s = self._started
        return datetime.fromtimestamp(at.timestamp() + now_s - started_s, UTC)

    def _write_episode(self, episode: EpisodeRecord, accounts: Accounts, now_s: float) -> None:
        self._rows.writerow(
            (
                self._part,
                _iso(self._at(now_s)),
                round(accounts.minutes(now_s), 4),
                accounts.env_steps,
                episode.slot,
                episode.episode,
                f"{episode.score:.10g}",
                episode.steps,
                round(episode.duration_s, 3),
                str(episode.outcome),
                plain(episode.reason),
                episode.remote_id,
                episode.lease_id,
                episode.node,
            )
        )

    def _write_progress(self, accounts: Accounts, now_s: float) -> None:
        line = {
            "part": self._part,
            "at": _iso(self._at(now_s)),
            "minutes": round(accounts.minutes(now_s), 4),
            "env_steps": accounts.env_steps,
            "episodes": accounts.episodes,
            "window_s": round(now_s - self._since_s, 3),
            "steps": self._steps,
            "slots": self._num_slots,
            "slots_running": sum(slot.is_healthy for slot in accounts.slots),
            "mean_score_100": accounts.recent_score(),
            "outcomes": dict(accounts.outcomes),
            "remotes_started": accounts.remotes_started,
            "remotes_lost": accounts.remotes_lost,
            "actors_lost": accounts.actors_lost,
            "rollouts_dropped": accounts.rollouts_dropped,
            "times_ms": {
                name: {**percentiles(times, (50, 95, 99)), "count": len(times)}
                for name, times in self._window_ms.items()
                if times
            },
            "counts": {name: round(count, 6) for name, count in self._counts.items()},
            "learner": {name: _mean(values) for name, values in self._learner.items()},
        }
        self._progress.write(json.dumps(plain(line), separators=(",", ":")) + "\n")
        self._progress.flush()
        self._since_s = now_s
        self._steps = 0
        self._window_ms.clear()
        self._counts.clear()
        self._learner.clear()


def _describe(config: TrainConfig, plan: Plan) -> dict[str, Any]:
    spec = plan.spec
    learner: Any = {"a3c": config.learner, "batched": plan.batched}.get(config.algo)
    settings = plain(config)
    # The constants that hold stand under "learner"; these may be another algorithm's.
    for name in ("learner", "batched"):
        settings.pop(name)
    return {
        "command": command(),
        "settings": settings,
        "environment": {
            "id": spec.id,
            "runtime": spec.runtime,
            "mode": plan.mode,
            "frame_skip": plan.frame_skip,
            "steps_per_s": steps_per_s(plan),
            "slots": plan.workers,
            "remotes": plain(plan.backend.name),
            "remotes_why": plain(plan.backend.why),
            "observation": plain(plan.observation),
            "frame_stack": plan.frame_stack,
            "actions": [" + ".join(keys) if keys else "nothing" for keys in spec.actions],
            "reward_scale": plan.reward_scale,
            "score_floor": spec.score_floor,
            "score_ceiling": spec.score_ceiling,
            "longest_episode_s": spec.max_episode_s,
        },
        "network": plain(plan.network),
        "learner": plain(learner),
        "versions": versions(),
        "machine": machine(),
    }


def _earlier_parts(path: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return list(json.loads(path.read_text(encoding="utf-8"))["parts"])
    return []


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if abs(value) < float("inf")]
    return float(f"{sum(finite) / len(finite):.6g}") if finite else None


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
