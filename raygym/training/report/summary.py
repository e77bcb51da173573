"""The head of a run's report and its summary, as HTML."""

from __future__ import annotations

import collections
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raygym.core import Outcome
from raygym.training.record_reading import RunData
from raygym.training.report import html as report_html
from raygym.training.report.html import NOTHING, facts, moment, number, percent, text

_RECENT_EPISODES = 100
_ALGORITHMS = {
    "a3c": "A3C",
    "batched": "the batched learner",
    "ppo": "RLlib’s PPO",
    "impala": "RLlib’s IMPALA",
    "appo": "RLlib’s APPO",
}


def headline(run: RunData) -> str:
    """What was run, when, and how it ended."""
    last = run.last
    name = run.env or run.logdir.resolve().name
    title = f", {html.escape(run.title)}" if run.title and run.title not in name else ""
    lines = [f"<h1>{html.escape(name)}{title}</h1>"]
    if not last:
        lines.append(
            '<p class="lead">Drawn from TensorBoard’s files: this run wrote no record of its '
            "settings, versions, outcomes and lags, so that none are given here.</p>"
        )
        return "".join(lines)
    environment = last.get("environment", {})
    algorithm = _ALGORITHMS.get(last.get("settings", {}).get("algo"), "")
    slots = environment.get("slots")
    pace = "real time" if environment.get("mode") == "realtime" else "lock-step"
    lines.append(
        f'<p class="lead">Trained by {html.escape(algorithm)} in {pace}, '
        f"{slots} {'slot' if slots == 1 else 'slots'}. "
        f"Run {html.escape(run.logdir.resolve().name)}, "
        f"begun {moment(run.parts[0].get('started_at'))}"
        + _resumed(len(run.parts) - 1)
        + (f", ended {moment(last['ended_at'])}" if last.get("ended_at") else "")
        + (f": {html.escape(last['ended_by'])}" if last.get("ended_by") else "")
        + ".</p>"
    )
    if not last.get("ended_at"):
        lines.append(
            '<p class="warning">No end is on record: the run goes on, or it was cut short. What '
            "stands here is what was written until then.</p>"
        )
    return "".join(lines)


def tiles(run: RunData) -> str:
    """The numbers that are asked for first."""
    score = run.episodes.score[run.episodes.is_ok]
    recent = score[-_RECENT_EPISODES:]
    summary = _summary(run)
    outcomes = total_outcomes(run)
    failed = sum(count for name, count in outcomes.items() if name != str(Outcome.OK))
    rows = [
        (
            f"Mean score, last {len(recent)} episodes" if len(recent) else "Mean score",
            number(float(recent.mean())) if len(recent) else NOTHING,
            _of_ceiling(run, float(recent.mean())) if len(recent) else "",
        ),
        (
            "Best score",
            number(float(score.max())) if len(score) else NOTHING,
            _of_ceiling(run, float(score.max())) if len(score) else "",
        ),
        (
            "Episodes",
            number(sum(outcomes.values())),
            f"{number(failed)} failed" if run.origin == "record" else "that did not fail",
        ),
        (
            "Environment steps",
            number(_last_steps(run)),
            f"{number(summary['steps_per_s'])} a second" if "steps_per_s" in summary else "",
        ),
        ("Time played", report_html.duration(_minutes(run)), "since the first step"),
    ]
    reaction = summary.get("reaction_time_ms", {})
    if reaction.get("p50") is not None:
        shown = number(reaction["p50"], digits=3, unit="ms")
        rows.append(("Reaction time, median", shown, f"95 %: {number(reaction['p95'], unit='ms')}"))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{note}</small>' if note else ''}</dd></div>"
        for name, value, note in rows
    )
    return f'<dl class="tiles">{cells}</dl>'


def summary_section(run: RunData) -> str:
    """All numbers of the summary, with their units."""
    summary = _summary(run)
    score = run.episodes.score[run.episodes.is_ok]
    recent = score[-_RECENT_EPISODES:]
    which = f"all {len(score)} whole"
    rows = [(f"Score, {which} episodes, mean ± standard deviation", _mean_and_sd(score))]
    if len(recent) < len(score):
        which = f"last {len(recent)}"
        rows.insert(
            0, (f"Score, {which} episodes, mean ± standard deviation", _mean_and_sd(recent))
        )
    if summary:
        floor, ceiling = summary.get("floor"), summary.get("ceiling")
        rows += [
            ("Floor of the score (random play)", _known(floor)),
            ("Ceiling of the score (scripted driver)", _known(ceiling)),
            ("Target", _target(summary.get("target"))),
        ]
    lengths = run.episodes.steps[run.episodes.is_ok]
    lengths = lengths[np.isfinite(lengths)]
    times = run.episodes.duration_s[run.episodes.is_ok]
    times = times[np.isfinite(times)]
    if len(lengths):
        rows.append(
            ("Length of a whole episode, median", number(float(np.median(lengths)), unit="steps"))
        )
    if len(times):
        rows.append(("Time of a whole episode, median", number(float(np.median(times)), unit="s")))
    if summary:
        remotes = [part.get("summary", {}).get("remotes", {}) for part in run.parts]
        rows += [
            ("Remotes started", number(sum(int(one.get("started", 0)) for one in remotes))),
            ("Remotes lost", number(sum(int(one.get("lost", 0)) for one in remotes))),
            ("Slots whose actor was lost", number(_over_parts(run, "actors_lost"))),
            ("Rollouts dropped unlearned", number(_over_parts(run, "rollouts_dropped"))),
            ("Newest checkpoint", _code(summary.get("checkpoint"))),
        ]
    return f"<h2>Summary</h2>{tiles(run)}{facts(rows)}{_parts_table(run)}"


def total_outcomes(run: RunData) -> dict[str, int]:
    """Returns how many episodes ended how, over all parts."""
    counts: collections.Counter[str] = collections.Counter()
    for part in run.parts:
        counts.update(part.get("summary", {}).get("outcomes", {}))
    if not run.parts or not all(part.get("summary") for part in run.parts):
        counts = collections.Counter(run.episodes.outcome.tolist())
    return dict(counts)


def _parts_table(run: RunData) -> str:
    if len(run.parts) < 2:
        return ""
    rows = [
        (
            number(n),
            moment(part.get("started_at")),
            report_html.duration(part.get("summary", {}).get("minutes")),
            number(part.get("summary", {}).get("env_steps_this_run")),
            number(part.get("summary", {}).get("steps_per_s")),
            text(part.get("ended_by")),
        )
        for n, part in enumerate(run.parts, 1)
    ]
    heads = ("Part", "Begun", "Time played", "Steps", "Steps a second", "Ended by")
    return report_html.table(heads, rows, numeric=(0, 2, 3, 4), caption="Parts of this run")


def _summary(run: RunData) -> dict[str, Any]:
    return dict(run.last.get("summary") or {})


def _over_parts(run: RunData, name: str) -> int:
    return sum(int(part.get("summary", {}).get(name) or 0) for part in run.parts)


def _last_steps(run: RunData) -> int | None:
    steps = _summary(run).get("env_steps")
    if steps is None and len(run.episodes):
        return int(run.episodes.env_steps.max())
    return None if steps is None else int(steps)


def _minutes(run: RunData) -> float | None:
    told = [part.get("summary", {}).get("minutes") for part in run.parts]
    known = [float(minutes) for minutes in told if minutes is not None]
    if known:
        return sum(known)
    return float(run.episodes.minutes.max()) if len(run.episodes) else None


def _mean_and_sd(values: Sequence[float] | np.ndarray[Any, Any]) -> str:
    if not len(values):
        return NOTHING
    return f"{number(float(np.mean(values)))} ± {number(float(np.std(values)))}"


def _resumed(times: int) -> str:
    if times < 1:
        return ""
    return ", resumed once" if times == 1 else f", resumed {times} times"


def _known(value: float | None) -> str:
    return "not known" if value is None else number(value)


def _of_ceiling(run: RunData, score: float) -> str:
    summary = _summary(run)
    floor, ceiling = summary.get("floor"), summary.get("ceiling")
    if floor is None or ceiling is None or ceiling == floor:
        return ""
    return f"{percent((score - floor) / (ceiling - floor))} of the way to the ceiling"


def _target(target: Mapping[str, Any] | None) -> str:
    if target is None:
        return "none"
    reached = target.get("reached")
    if reached is None:
        return f"{number(target['score'])}, not reached"
    return (
        f"{number(target['score'])}, reached after {number(reached['env_steps'])} steps, "
        f"{report_html.duration(reached['minutes'])}"
    )


def _code(value: str | None) -> str:
    return NOTHING if not value else f"<code>{html.escape(Path(value).name)}</code>"
