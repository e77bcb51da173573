from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import pytest

from raygym.core import Outcome
from raygym.training.record_reading import read_run
from raygym.training.report import curves
from raygym.training.report.curve_drawer import CurveDrawer
from raygym.training.report.curves import CURVES_OF_PAGE, LAGS, learner_curves, svg, write_page
from tests.support.run_files import a_report, an_episode, write_part

BY_NAME = {curve.name: curve for curve in CURVES_OF_PAGE}


def a_run(logdir: Path, episodes: int = 30, **fields):
    reports = [
        a_report(
            an_episode(n, outcome=Outcome.TIMEOUT if n % 10 == 9 else Outcome.OK),
            statistics={"entropy": 1.0 / (n + 1), "ratio": 1.0},
            **fields,
        )
        for n in range(episodes)
    ]
    write_part(logdir, *reports)
    return read_run(logdir)


LAG = {"times_ms": {"reaction_time_ms": [25.0], "action_lag_ms": [5.0]}}


def test_the_page_is_a_png_and_is_there_for_a_run_without_episodes_too(tmp_path: Path):
    write_page(a_run(tmp_path, **LAG), tmp_path / "full.png")
    write_page(a_run(tmp_path / "new", 0), tmp_path / "empty.png")
    full, empty = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("full", "empty"))
    assert full.shape == empty.shape
    assert full.shape[1] > 1200
    assert (full < 250).mean() > (empty < 250).mean()
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("curve", [*CURVES_OF_PAGE, LAGS], ids=lambda curve: curve.name)
def test_each_figure_is_svg_that_takes_its_colours_from_the_page(tmp_path: Path, curve):
    drawn = svg(a_run(tmp_path, **LAG), curve)
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    assert root.get("aria-label") == curve.title
    fixed = set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#000000"}
    assert fixed <= {"#ffffff"}, "each colour is a variable of the page's"
    assert "var(--ink)" in drawn
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert ids
    assert all(name.startswith(curve.name) for name in ids), "figures of a page share no id"
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', drawn)) <= set(ids)
    assert "font-family" not in drawn
    assert "http" not in drawn.replace("http://www.w3.org/", "")


@pytest.mark.parametrize("curve", [*CURVES_OF_PAGE, LAGS], ids=lambda curve: curve.name)
def test_what_was_not_recorded_is_not_drawn(tmp_path: Path, curve):
    assert svg(a_run(tmp_path, 0), curve) is None


def test_episodes_that_failed_are_no_dots_and_no_part_of_the_mean(tmp_path: Path):
    drawn = svg(a_run(tmp_path, 30), BY_NAME["score-steps"])
    assert drawn is not None
    assert "episode (n = 27)" in drawn
    assert "mean of 5 episodes" in drawn
    outcomes = svg(read_run(tmp_path), BY_NAME["outcomes"])
    assert outcomes is not None
    assert "ok (27)" in outcomes
    assert "timeout (3)" in outcomes


def test_many_episodes_are_a_band_instead_of_dots(tmp_path: Path):
    drawn = svg(a_run(tmp_path, 1000), BY_NAME["score-steps"])
    assert drawn is not None
    assert "10 to 90 % of episodes (n = 900)" in drawn
    assert len(drawn) < 120_000


def test_what_the_learner_tells_is_drawn_unless_it_never_changes(tmp_path: Path):
    changing, constant = learner_curves(a_run(tmp_path))
    assert [curve.title for curve in changing] == ["entropy"]
    assert constant == {"ratio": 1.0}
    assert svg(read_run(tmp_path), changing[0]) is not None


def test_the_drawer_draws_when_asked_and_ends(tmp_path: Path):
    a_run(tmp_path)
    drawer = CurveDrawer(tmp_path)
    for _ in range(20):
        drawer.wish()
    drawer.close(timeout_s=60.0)
    assert (tmp_path / curves.CURVES).is_file()


def test_the_drawer_outlives_what_cannot_be_drawn(tmp_path: Path):
    drawer = CurveDrawer(tmp_path / "absent")
    drawer.wish()
    drawer.close(timeout_s=60.0)
    assert not (tmp_path / "absent").exists()


def test_a_line_is_broken_where_nothing_was_measured(tmp_path: Path):
    times = {"times_ms": {"reaction_time_ms": [25.0]}}
    spoken = [a_report(**times) for _ in range(4)]
    silent = [a_report() for _ in range(9)]
    write_part(tmp_path / "whole", *spoken * 4)
    write_part(tmp_path / "broken", *spoken * 2, *silent, *spoken * 2)

    def strokes(logdir: Path) -> int:
        drawn = svg(read_run(logdir), BY_NAME["reaction"])
        assert drawn is not None
        median = drawn[: drawn.rindex("var(--blue)")]
        return max(path.count("M ") for path in re.findall(r'<path d="([^"]*)"', median))

    assert strokes(tmp_path / "whole") == 1
    assert strokes(tmp_path / "broken") == 2
