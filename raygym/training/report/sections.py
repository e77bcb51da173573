"""The sections of a run's report, each a text of HTML. Nothing is said that was not recorded."""

from __future__ import annotations

import collections
import html
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raygym.core import Outcome
from raygym.training.films import VIDEOS
from raygym.training.record_reading import RunData
from raygym.training.report import curves
from raygym.training.report import html as report_html
from raygym.training.report.curves import FULL_IN, HALF_IN, SMALL_IN, Curve, learner_curves
from raygym.training.report.films import films_section
from raygym.training.report.html import NOTHING, facts, moment, number, percent, settings, text
from raygym.training.report.summary import summary_section, total_outcomes

_MOST_REASONS = 25
_TIMES = {
    "reaction_time_ms": "Reaction time: from a change on the screen to the answer to it",
    "observation_lag_ms": "Observation lag: from painting at the far end to the frame’s hand-over",
    "action_lag_ms": "Action lag: from sending a key to its arrival at the program",
    "reward_lag_ms": "Reward lag: from a reward at the far end to its hand-over",
    "clock_skew_ms": "Clock skew: the remote’s clock minus ours",
}


class Figures:
    """Counts figures and draws them."""

    def __init__(self, run: RunData) -> None:
        self._run = run
        self._count = 0

    def figure(self, curve: Curve, caption: str, *, size_in: tuple[float, float] = FULL_IN) -> str:
        """Returns a figure with its caption, HTML; empty where the run has no such data."""
        drawn = curves.svg(self._run, curve, size_in=size_in)
        if drawn is None:
            return ""
        self._count += 1
        said = f"<b>Figure {self._count}.</b> {caption}"
        return f"<figure>{drawn}<figcaption>{said}</figcaption></figure>"


def curves_section(_run: RunData, figures: Figures) -> str:
    """Score over steps and time, and the length of episodes."""
    page = {curve.name: curve for curve in curves.CURVES_OF_PAGE}
    mean = f"moving mean of at most {curves.WINDOW_EPISODES} episodes"
    body = figures.figure(
        page["score-steps"],
        f"Score of each whole episode (sum of its rewards, unscaled) over the environment steps of "
        f"all slots, and the {mean}. Episodes that failed do not count.",
    )
    pair = figures.figure(page["score-minutes"], f"The same over time; {mean}.", size_in=HALF_IN)
    pair += figures.figure(
        page["length"], "Steps of each whole episode over time.", size_in=HALF_IN
    )
    body += f'<div class="pair">{pair}</div>'
    return f"<h2>Learning curves</h2>{body if '<figure' in body else '<p>No episode ended.</p>'}"


def outcomes_section(run: RunData, figures: Figures) -> str:
    """How episodes ended, and why those that failed did."""
    if run.origin != "record":
        return ""
    outcomes = total_outcomes(run)
    total = sum(outcomes.values())
    rows = [
        (
            f"<code>{html.escape(name)}</code>",
            number(count),
            percent(count / total) if total else "",
        )
        for name, count in sorted(outcomes.items(), key=lambda one: -one[1])
    ]
    body = report_html.table(("Outcome", "Episodes", "Share"), rows, numeric=(1, 2))
    page = {curve.name: curve for curve in curves.CURVES_OF_PAGE}
    body += figures.figure(page["outcomes"], "Episodes by outcome, in equal spans of time.")
    return f"<h2>Outcomes</h2>{body}{_failures(run, outcomes)}"


def times_section(run: RunData, figures: Figures) -> str:
    """Reaction time and lags, as percentiles and over time."""
    if run.origin != "record":
        return ""
    body = ""
    for part_number, part in enumerate(run.parts, 1):
        times_ms = part.get("times_ms") or {}
        rows = [
            (
                text(_TIMES.get(name, name)),
                *(number(found[p], digits=3) for p in ("p50", "p95", "p99")),
                number(found["count"]),
            )
            for name, found in sorted(times_ms.items(), key=lambda one: _order(one[0]))
        ]
        if rows:
            caption = f"Part {part_number}. " if len(run.parts) > 1 else ""
            body += report_html.table(
                ("Time, in ms", "Median", "95 %", "99 %", "Values"),
                rows,
                numeric=(1, 2, 3, 4),
                caption=f"{caption}Percentiles over all slots",
            )
    if not body:
        pace = run.last.get("environment", {}).get("mode")
        why = " In lock-step the environment waits for the agent." if pace == "lockstep" else ""
        return f"<h2>Reaction time and lags</h2><p>None were measured.{why}</p>"
    page = {curve.name: curve for curve in curves.CURVES_OF_PAGE}
    said = "Reaction time over time, a point every few seconds; where none was measured, a gap."
    pair = figures.figure(page["reaction"], said, size_in=HALF_IN)
    pair += figures.figure(curves.LAGS, "Medians of the lags over time.", size_in=HALF_IN)
    body += f'<div class="pair">{pair}</div>'
    return f"<h2>Reaction time and lags</h2>{body}"


def _order(name: str) -> int:
    names = list(_TIMES)
    return names.index(name) if name in names else len(names)


def throughput_section(run: RunData, figures: Figures) -> str:
    """Steps a second, and what the learner told of itself."""
    if run.origin != "record":
        return ""
    page = {curve.name: curve for curve in curves.CURVES_OF_PAGE}
    drawn = figures.figure(
        page["throughput"], "Environment steps a second, over all slots.", size_in=(9.9, 2.6)
    )
    body = f"<h2>Throughput</h2>{drawn or '<p>It was not recorded.</p>'}"
    changing, constant = learner_curves(run)
    small = "".join(
        f"<figure>{svg}<figcaption><code>{html.escape(curve.title)}</code></figcaption></figure>"
        for curve in changing
        if (svg := curves.svg(run, curve, size_in=SMALL_IN)) is not None
    )
    same = ", ".join(
        f"<code>{html.escape(name)}</code> = {number(value)}" for name, value in constant.items()
    )
    if small or same:
        body += (
            "<h2>Learner</h2><p>What the learner tells of its updates; each point is the mean of a "
            f"few seconds.{f' The same throughout: {same}.' if same else ''}</p>"
            f'<div class="small">{small}</div>'
        )
    return body


def settings_section(run: RunData) -> str:
    """What was run, with which settings, on what."""
    last = run.last
    if not last:
        return ""
    blocks: list[tuple[str, Mapping[str, Any]]] = [
        ("Settings", {k: v for k, v in last.get("settings", {}).items() if v is not None}),
        ("Environment", last.get("environment") or {}),
        ("Learner", last.get("learner") or {}),
        ("Network", last.get("network") or {}),
        ("Versions", last.get("versions") or {}),
        ("Machine of the trainer", last.get("machine") or {}),
    ]
    body = "".join(
        f"<section><h3>{name}</h3>{facts(settings(values))}</section>"
        for name, values in blocks
        if values
    )
    which = "of the newest part" if len(run.parts) > 1 else ""
    commands = "".join(
        f'<p class="command">{_command(part["command"])}</p>'
        for part in run.parts
        if part.get("command")
    )
    return (
        f"<h2>What was run</h2>{commands}<p>Settings {which} as given or by default; what was "
        "chosen where none was given stands under environment, learner and network. Passwords and "
        f'tokens are not recorded.</p><div class="columns">{body}</div>'
    )


def files_section(run: RunData) -> str:
    """Where the numbers lie."""
    known = (
        ("run.json", "settings, versions, machine and summary of each part"),
        ("episodes.csv", "a row an episode"),
        ("progress.jsonl", "an object every few seconds: rates, lags, outcomes, learner"),
        ("curves.png", "the curves on one page"),
        ("checkpoints", "the weights"),
        (VIDEOS, "films, their contact sheets and records"),
    )
    rows = [
        (f'<a href="{name}"><code>{name}</code></a>', text(what))
        for name, what in known
        if (run.logdir / name).exists()
    ]
    return f"<h2>Files</h2>{report_html.table(('In the logdir', 'What it holds'), rows)}"


def _failures(run: RunData, outcomes: Mapping[str, int]) -> str:
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in run.episodes.rows:
        groups.setdefault((row["outcome"], row["reason"]), []).append(row)
    told = collections.Counter(row["outcome"] for row in run.episodes.rows)
    rows = [
        (
            f"<code>{html.escape(outcome)}</code>",
            text(reason or None),
            number(len(found)),
            text(", ".join(sorted({row["slot"] for row in found}, key=int)[:8])),
            moment(found[-1]["at"]),
        )
        for (outcome, reason), found in sorted(groups.items(), key=lambda one: -len(one[1]))
    ]
    for name, count in outcomes.items():
        if name != str(Outcome.OK) and count > told[name]:
            why = "the actor that played it ended, and with it what it knew"
            rows.append(
                (
                    f"<code>{html.escape(name)}</code>",
                    why,
                    number(count - told[name]),
                    NOTHING,
                    NOTHING,
                )
            )
    if not rows:
        return "<p>No episode failed.</p>"
    more = f"<p>{len(rows) - _MOST_REASONS} further reasons stand in <code>episodes.csv</code>.</p>"
    return report_html.table(
        ("Outcome", "Reason", "Episodes", "Slots", "Last at"),
        rows[:_MOST_REASONS],
        numeric=(2,),
        caption="Episodes that failed, by reason",
    ) + (more if len(rows) > _MOST_REASONS else "")


def _command(arguments: Sequence[str]) -> str:
    """Returns a command whose lines break between its arguments only."""
    return " ".join(f"<span>{html.escape(shlex.quote(one))}</span>" for one in arguments)


SECTIONS: tuple[Callable[[RunData, Figures], str], ...] = (
    lambda run, _: summary_section(run),
    curves_section,
    outcomes_section,
    times_section,
    throughput_section,
    lambda run, _: films_section(run),
    lambda run, _: settings_section(run),
    lambda run, _: files_section(run),
)
"""In their order on the page."""


def sections(run: RunData) -> Iterator[str]:
    """Yields the sections of a report."""
    figures = Figures(run)
    for section in SECTIONS:
        yield section(run, figures)
