"""Draws the curves of a run: one page as PNG, or single figures as SVG for a report."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from raygym.core import OUTCOMES
from raygym.training.record import PROGRESS_EVERY_S
from raygym.training.record_reading import Float64Array, RunData

CURVES = "curves.png"
"""Name of the page of curves in a logdir."""
WINDOW_EPISODES = 100
"""Longest window of the moving mean."""

FULL_IN, HALF_IN, SMALL_IN = (9.9, 3.5), (4.6, 2.9), (3.4, 2.1)
"""Sizes of figures in a report, in inches of 72 px: a whole line, half of one, a third."""

_MOST_DOTS = 600
_MOST_POINTS = 800
_MOST_MARKS = 200
_BINS = 60
_GAP_WINDOWS = 3
"""A window so many times as long as usual is one in which nobody reported: a line is broken."""
_SPANS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_INK, _MUTED, _RULE = "#212529", "#5c636a", "#dee2e6"
_DOT, _BLUE, _RED, _GOLD, _GREEN, _VIOLET = (
    "#8fa3b5",
    "#1c6ea4",
    "#c2255c",
    "#b8860b",
    "#2f8f4e",
    "#7048a8",
)
_OUTCOME_COLOURS = dict(
    zip(map(str, OUTCOMES), (_GREEN, _RED, _GOLD, _VIOLET, _BLUE, _MUTED), strict=False)
)
_CSS_NAMES = {
    _INK: "ink",
    _MUTED: "muted",
    _RULE: "rule",
    _DOT: "dot",
    _BLUE: "blue",
    _RED: "red",
    _GOLD: "gold",
    _GREEN: "green",
    _VIOLET: "violet",
}
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Curve:
    """One figure."""

    name: str
    """Short, for ids."""
    title: str
    draw: Callable[[Axes, RunData], bool]
    """Draws it; returns False, and draws nothing, where the run has no such data."""
    missing: str
    """What is said where it has none."""


def score_over_steps(axes: Axes, run: RunData) -> bool:
    """Draws each episode's score against the environment steps of all slots."""
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return _draw_episodes(axes, run, run.episodes.env_steps, run.episodes.score, "score")


def score_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws each episode's score against the time since the first step."""
    axes.set_xlabel("minutes since the first step")
    return _draw_episodes(axes, run, run.episodes.minutes, run.episodes.score, "score")


def length_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws each episode's number of steps."""
    axes.set_xlabel("minutes since the first step")
    return _draw_episodes(axes, run, run.episodes.minutes, run.episodes.steps, "steps")


def outcomes_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws how many episodes ended how, in equal spans of time."""
    episodes = run.episodes
    if not len(episodes):
        return False
    last_s = 60 * float(episodes.minutes.max())
    span_s = next((span for span in _SPANS_S if last_s / span <= _BINS), last_s / _BINS)
    edges = np.arange(0.0, last_s + span_s, span_s) / 60
    if len(edges) < 2:
        edges = np.array([0.0, span_s]) / 60
    floor = np.zeros(len(edges) - 1)
    for outcome in sorted(set(episodes.outcome.tolist()), key=_outcome_rank):
        counts, _ = np.histogram(episodes.minutes[episodes.outcome == outcome], edges)
        colour = _OUTCOME_COLOURS.get(outcome, _MUTED)
        total = int(counts.sum())
        axes.bar(
            edges[:-1],
            counts,
            np.diff(edges),
            bottom=floor,
            align="edge",
            color=colour,
            linewidth=0,
            label=f"{outcome} ({total})",
        )
        floor = floor + counts
    axes.set_xlabel("minutes since the first step")
    axes.set_ylabel(f"episodes in {_span(span_s)}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", ncols=2)
    axes.set_ylim(0, 1.25 * float(floor.max()))
    return True


def reaction_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws median and 95th percentile of the reaction time."""
    return _draw_times(axes, run, "reaction_time_ms", "reaction time, ms")


def throughput_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws the environment steps a second, over all slots."""
    lines = [line for line in run.progress if line["window_s"] > 0]
    if not lines:
        return False
    minutes = np.array([line["minutes"] for line in lines])
    rate = np.array([line["steps"] / line["window_s"] for line in lines])
    minutes, rate = _thinned(minutes, rate)
    axes.plot(minutes, rate, color=_BLUE, label="steps a second")
    axes.set_ylim(0, 1.1 * max(float(rate.max()), 1e-9))
    axes.set_xlabel("minutes since the first step")
    axes.set_ylabel("environment steps a second")
    return True


def lags_over_minutes(axes: Axes, run: RunData) -> bool:
    """Draws the medians of the three lags."""
    names = {"observation_lag_ms": _BLUE, "action_lag_ms": _RED, "reward_lag_ms": _GOLD}
    has_any = False
    for name, colour in names.items():
        points = _times(run, name, "p50")
        if len(points):
            has_any = True
            axes.plot(
                *_thinned(*points.T), *_marks(points), color=colour, label=name.removesuffix("_ms")
            )
    if has_any:
        axes.set_xlabel("minutes since the first step")
        axes.set_ylabel("median lag, ms")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
    return has_any


CURVES_OF_PAGE = (
    Curve("score-steps", "Score over environment steps", score_over_steps, "no episode ended"),
    Curve("score-minutes", "Score over time", score_over_minutes, "no episode ended"),
    Curve("outcomes", "Outcomes of episodes", outcomes_over_minutes, "no episode ended"),
    Curve("reaction", "Reaction time", reaction_over_minutes, "no reaction time was measured"),
    Curve("throughput", "Throughput", throughput_over_minutes, "not recorded"),
    Curve("length", "Length of episodes", length_over_minutes, "not recorded"),
)
"""Those of ``curves.png``."""
LAGS = Curve("lags", "Lags", lags_over_minutes, "no lag was measured")


def learner_curves(run: RunData) -> tuple[list[Curve], dict[str, float]]:
    """Returns what the learner told of itself.

    Returns:
        A curve for each statistic that changed, and the values of those that did not.
    """
    values: dict[str, set[float]] = {}
    for line in run.progress:
        for name, value in line.get("learner", {}).items():
            if value is not None:
                values.setdefault(name, set()).add(value)
    changing = sorted(name for name, seen in values.items() if len(seen) > 1)
    return (
        [
            Curve(f"learner-{number}", name, _learner_drawer(name), "not recorded")
            for number, name in enumerate(changing)
        ],
        {name: next(iter(seen)) for name, seen in sorted(values.items()) if len(seen) == 1},
    )


def write_page(run: RunData, path: Path) -> None:
    """Draws the page of curves into a PNG file, whole or not at all."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 10.5), dpi=120, layout="constrained")
        figure.suptitle(run.env or run.logdir.name, x=0.01, ha="left", fontsize=13, weight="bold")
        for curve, axes in zip(CURVES_OF_PAGE, figure.subplots(3, 2).flat, strict=True):
            axes.set_title(curve.title)
            if not curve.draw(axes, run):
                _say_missing(axes, curve.missing)
        partial = path.with_name(f"{path.name}.tmp")
        figure.savefig(partial, format="png", facecolor="white")
        partial.replace(path)


def svg(run: RunData, curve: Curve, *, size_in: tuple[float, float] = FULL_IN) -> str | None:
    """Returns a figure as an SVG element whose colours are CSS variables such as ``--blue``.

    Args:
        run: What to draw.
        curve: Which figure.
        size_in: Width and height, in inches of 72 px.

    Returns:
        The element; None where the run has no such data.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": curve.name}):
        figure = Figure(figsize=size_in, layout="constrained")
        axes = figure.subplots()
        if not curve.draw(axes, run):
            return None
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _as_element(text.getvalue(), curve)


def _draw_episodes(axes: Axes, run: RunData, x: Float64Array, y: Float64Array, unit: str) -> bool:
    is_ok = np.logical_and(run.episodes.is_ok, np.isfinite(y))
    x, y = x[is_ok], y[is_ok]
    if not len(y):
        return False
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(y) <= _MOST_DOTS:
        axes.plot(x, y, ".", color=_DOT, markersize=3.5, label=f"episode (n = {len(y)})")
    else:
        chunks = np.array_split(np.arange(len(y)), _MOST_DOTS // 4)
        low, high = np.array([np.percentile(y[chunk], (10, 90)) for chunk in chunks]).T
        middle = np.array([x[chunk].mean() for chunk in chunks])
        axes.fill_between(
            middle,
            low,
            high,
            color=_DOT,
            alpha=0.35,
            linewidth=0,
            label=f"10 to 90 % of episodes (n = {len(y)})",
        )
    window = min(WINDOW_EPISODES, max(1, len(y) // 5))
    if window > 1:
        mean = np.convolve(y, np.ones(window) / window, mode="valid")
        axes.plot(*_thinned(x[window - 1 :], mean), color=_BLUE, label=f"mean of {window} episodes")
    axes.set_xlim(0, 1.03 * max(float(x[-1]), 1e-9))
    axes.set_ylabel(unit)
    axes.legend(loc="best")
    return True


def _draw_times(axes: Axes, run: RunData, name: str, label: str) -> bool:
    median, high = _times(run, name, "p50"), _times(run, name, "p95")
    if not len(median):
        return False
    axes.plot(*_thinned(*high.T), *_marks(high), color=_GOLD, label="95th percentile")
    axes.plot(*_thinned(*median.T), *_marks(median), color=_BLUE, label="median")
    axes.set_xlabel("minutes since the first step")
    axes.set_ylabel(label)
    axes.set_ylim(0, 1.15 * max(float(np.nanmax(high[:, 1])), 1e-9))
    axes.legend(loc="best")
    return True


def _times(run: RunData, name: str, which: str) -> Float64Array:
    """Returns minutes and milliseconds, float64[N, 2]; nan where nothing was measured."""
    points: list[tuple[float, float]] = []
    for line in run.progress:
        value = (line.get("times_ms", {}).get(name) or {}).get(which)
        is_after_gap = line["window_s"] > _GAP_WINDOWS * PROGRESS_EVERY_S
        if points and (value is None or is_after_gap):
            points.append((line["minutes"], math.nan))
        if value is not None:
            points.append((line["minutes"], value))
    return np.array(points, np.float64).reshape(-1, 2)


def _marks(points: Float64Array) -> tuple[str, ...]:
    """Returns a format with a mark for each point where they are few: one alone has no line."""
    return (".-",) if len(points) <= _MOST_MARKS else ()


def _learner_drawer(name: str) -> Callable[[Axes, RunData], bool]:
    def draw(axes: Axes, run: RunData) -> bool:
        points = [
            (line["env_steps"], value)
            for line in run.progress
            if (value := line.get("learner", {}).get(name)) is not None
        ]
        if len(points) < 2:
            return False
        axes.plot(*_thinned(*np.array(points, np.float64).T), color=_BLUE, linewidth=1.2)
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        return True

    return draw


def _thinned(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[Float64Array, Float64Array]:
    """Returns means of neighbours where there are more points than can be told apart."""
    if len(x) <= _MOST_POINTS:
        return x, y
    chunks = np.array_split(np.arange(len(x)), _MOST_POINTS)
    return (
        np.array([x[chunk].mean() for chunk in chunks]),
        np.array([y[chunk].mean() for chunk in chunks]),
    )


def _span(span_s: float) -> str:
    for unit, length_s in (("h", 3600), ("min", 60)):
        if span_s >= length_s:
            return f"{span_s / length_s:.3g} {unit}"
    return f"{span_s:.3g} s"


def _outcome_rank(outcome: str) -> int:
    names: Sequence[str] = [str(one) for one in OUTCOMES]
    return names.index(outcome) if outcome in names else len(names)


def _say_missing(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=_MUTED, transform=axes.transAxes)


def _as_element(text: str, curve: Curve) -> str:
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(\bid=")', rf"\1{curve.name}-", element)
    element = re.sub(r'(url\(#|href="#)', rf"\1{curve.name}-", element)
    # The page's font, not one that matplotlib knows of.
    element = re.sub(r"font-family: [^;\"]*;? ?", "", element)
    for colour, name in _CSS_NAMES.items():
        element = element.replace(colour, f"var(--{name})")
    return element.replace("<svg ", f'<svg role="img" aria-label="{curve.title}" ', 1).strip()
