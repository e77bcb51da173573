"""Reads what a run wrote down of itself, also while it goes on or after it was cut short."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.core import Outcome
from raygym.errors import ConfigError
from raygym.films.shelf import FilmRecord, read_films
from raygym.training.films import VIDEOS
from raygym.training.record import EPISODE_COLUMNS, EPISODES, PROGRESS, RUN

Float64Array = npt.NDArray[np.float64]

SCORE_TAG = "global/episode_reward"
LENGTH_TAG = "global/episode_length"
TIME_TAG = "global/episode_time"


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """The episodes of a run in the order of their ends; arrays of one length, N."""

    minutes: Float64Array
    """float64[N]: since the run's first step, over all its parts, without the pauses between."""
    env_steps: Float64Array
    """float64[N]: over all slots, at the episode's end."""
    score: Float64Array
    """float64[N]; nan where it was no number."""
    steps: Float64Array
    duration_s: Float64Array
    outcome: npt.NDArray[np.str_]
    rows: list[dict[str, str]] = field(default_factory=list)
    """As they stand in the file, for those that failed; by column."""

    @property
    def is_ok(self) -> npt.NDArray[np.bool_]:
        """bool[N]: whether nothing failed in it, so that its score counts."""
        is_ok: npt.NDArray[np.bool_] = self.outcome == str(Outcome.OK)
        return is_ok & np.isfinite(self.score)

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """All that is known of a run."""

    logdir: Path
    env: str
    title: str
    parts: list[dict[str, Any]]
    """As in ``run.json``; empty for a run that has none."""
    episodes: Episodes
    progress: list[dict[str, Any]]
    """As in ``progress.jsonl``, with ``minutes`` over all parts; empty where there is none."""
    films: list[FilmRecord]
    origin: str
    """Where the curves come from: ``record``, or ``tensorboard``."""

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest part."""
        return self.parts[-1] if self.parts else {}


def read_run(logdir: Path) -> RunData:
    """Reads a run's files; TensorBoard's where it wrote no others.

    Raises:
        ConfigError: Nothing of a run is there, or ``run.json`` cannot be read.
    """
    if not (logdir / RUN).is_file():
        return _from_tensorboard(logdir)
    try:
        content = json.loads((logdir / RUN).read_text(encoding="utf-8"))
        parts = list(content["parts"])
        env, title = str(content["env"]), str(content.get("title") or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{logdir / RUN}: it cannot be read: {error}") from error
    offsets = _offsets(logdir, parts)
    return RunData(
        logdir=logdir,
        env=env,
        title=title,
        parts=parts,
        episodes=_read_episodes(logdir / EPISODES, offsets),
        progress=list(_read_progress(logdir / PROGRESS, offsets)),
        films=read_films(logdir / VIDEOS),
        origin="record",
    )


def _offsets(logdir: Path, parts: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Returns the minutes that went by before each part."""
    longest: dict[int, float] = {
        number: float(part.get("summary", {}).get("minutes") or 0.0)
        for number, part in enumerate(parts, 1)
    }
    for line in _read_progress(logdir / PROGRESS, {}):
        part = int(line["part"])
        longest[part] = max(longest.get(part, 0.0), float(line["minutes"]))
    for row in _rows(logdir / EPISODES):
        part = int(row["part"])
        longest[part] = max(longest.get(part, 0.0), float(row["minutes"]))
    offsets, sum_minutes = {}, 0.0
    for part in range(1, max(longest, default=0) + 1):
        offsets[part] = sum_minutes
        sum_minutes += longest.get(part, 0.0)
    return offsets


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # The last line may be cut off where the run was.
            if all(row.get(name) is not None for name in EPISODE_COLUMNS) and _is_row(row):
                yield row


def _is_row(row: Mapping[str, str]) -> bool:
    try:
        for name in ("part", "minutes", "env_steps", "score", "steps", "duration_s"):
            float(row[name])
    except ValueError:
        return False
    return True


def _read_episodes(path: Path, offsets: Mapping[int, float]) -> Episodes:
    table: list[tuple[float, float, float, float, float]] = []
    outcomes, failed = [], []
    for row in _rows(path):
        minutes = float(row["minutes"]) + offsets.get(int(row["part"]), 0.0)
        numbers = [float(row[name]) for name in ("env_steps", "score", "steps", "duration_s")]
        table.append((minutes, numbers[0], numbers[1], numbers[2], numbers[3]))
        outcomes.append(row["outcome"])
        if row["outcome"] != str(Outcome.OK):
            failed.append(row)
    columns = np.array(table, np.float64).reshape(-1, 5).T
    return Episodes(
        minutes=columns[0],
        env_steps=columns[1],
        score=columns[2],
        steps=columns[3],
        duration_s=columns[4],
        outcome=np.array(outcomes, np.str_),
        rows=failed,
    )


def _read_progress(path: Path, offsets: Mapping[int, float]) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
                line["minutes"] = float(line["minutes"]) + offsets.get(int(line["part"]), 0.0)
            except (ValueError, KeyError, TypeError):
                continue
            yield line


def _from_tensorboard(logdir: Path) -> RunData:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points: dict[str, list[tuple[float, float, float]]] = {}
    for folder in sorted({path.parent for path in logdir.glob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for tag in {SCORE_TAG, LENGTH_TAG, TIME_TAG} & set(events.Tags()["scalars"]):
            points.setdefault(tag, []).extend(
                (event.wall_time, event.step, event.value) for event in events.Scalars(tag)
            )
    if SCORE_TAG not in points:
        raise ConfigError(
            f"{logdir}: neither {RUN} nor an episode in TensorBoard's files is there; give the "
            "--logdir of a run of raygym.train"
        )
    at, env_steps, score = np.array(sorted(points[SCORE_TAG]), np.float64).T
    lengths, times = (
        np.array([value for _, _, value in sorted(points.get(tag, []))], np.float64)
        for tag in (LENGTH_TAG, TIME_TAG)
    )
    unknown = np.full(len(score), math.nan)
    return RunData(
        logdir=logdir,
        env="",
        title="",
        parts=[],
        episodes=Episodes(
            minutes=(at - at[0]) / 60,
            env_steps=env_steps,
            score=score,
            steps=lengths if len(lengths) == len(score) else unknown,
            duration_s=times if len(times) == len(score) else unknown,
            outcome=np.full(len(score), str(Outcome.OK)),
        ),
        progress=[],
        films=read_films(logdir / VIDEOS),
        origin="tensorboard",
    )
