from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import raygym
from raygym.core import Outcome
from raygym.training.record import EPISODE_COLUMNS, Sample
from tests.support.run_files import a_report, an_episode, write_part


def read(logdir: Path) -> tuple[dict, list[dict], list[dict]]:
    run = json.loads((logdir / "run.json").read_text())
    with (logdir / "episodes.csv").open(newline="") as file:
        episodes = list(csv.DictReader(file))
    progress = [json.loads(line) for line in (logdir / "progress.jsonl").read_text().splitlines()]
    return run, episodes, progress


def test_a_run_writes_down_what_it_is(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode()), seed=7)
    run, _, _ = read(tmp_path)
    assert (run["format"], run["env"], run["title"]) == (1, "test.Tiny-v0", "Tiny")
    (part,) = run["parts"]
    assert part["settings"]["seed"] == 7
    assert part["settings"]["films"]["every_episodes"] == 50
    assert part["learner"]["gamma"] == 0.97
    assert part["environment"]["mode"] == "realtime"
    assert part["environment"]["actions"] == ["nothing", "a", "b"]
    assert part["versions"]["raygym"] == raygym.__version__
    assert part["machine"]["cores"] >= 1
    assert part["started_at"] == "2026-01-01T12:00:00.000Z"
    assert part["ended_at"] == "2026-01-01T12:00:52.000Z"
    assert part["ended_by"] == "--minutes 1 reached"
    assert part["summary"]["episodes"] == 1


def test_the_constants_are_those_of_the_algorithm_that_learns(tmp_path: Path):
    write_part(tmp_path, algo="batched")
    part = read(tmp_path)[0]["parts"][0]
    assert part["learner"]["clip"] == 0.1
    assert "learner" not in part["settings"]
    assert "batched" not in part["settings"]


def test_each_episode_is_a_row(tmp_path: Path):
    failed = an_episode(
        1, score=float("nan"), outcome=Outcome.INFRA_FAILURE, reason='it "broke",\nbadly', slot=3
    )
    write_part(tmp_path, a_report(), a_report(an_episode(0, score=-1.25), failed))
    _, episodes, _ = read(tmp_path)
    assert tuple(episodes[0]) == EPISODE_COLUMNS
    assert episodes[0]["score"] == "-1.25"
    assert episodes[0]["minutes"] == "0.0333"
    assert episodes[0]["at"] == "2026-01-01T12:00:52.000Z"
    assert (episodes[0]["remote_id"], episodes[0]["node"]) == ("r-1", "node-1")
    assert episodes[1]["score"] == "nan"
    assert episodes[1]["outcome"] == "infra_failure"
    assert episodes[1]["reason"] == 'it "broke",\nbadly'
    assert episodes[1]["slot"] == "3"


def test_progress_is_told_every_few_seconds_and_at_the_end(tmp_path: Path):
    reports = [
        a_report(
            steps=10,
            times_ms={"reaction_time_ms": [float(n)]},
            counts={"frames": 2.0},
            statistics={"entropy": float(n)},
        )
        for n in range(8)
    ]
    write_part(tmp_path, *reports)
    progress = read(tmp_path)[2]
    assert [line["window_s"] for line in progress] == [6.0, 6.0, 4.0]
    assert [line["steps"] for line in progress] == [30, 30, 10], "none of before the first window"
    assert [line["env_steps"] for line in progress] == [40, 70, 80]
    assert progress[0]["times_ms"]["reaction_time_ms"] == {
        "p50": 1.5,
        "p95": 2.85,
        "p99": 2.97,
        "count": 4,
    }
    assert [line["counts"]["frames"] for line in progress] == [8.0, 6.0, 2.0]
    assert [line["learner"]["entropy"] for line in progress] == [1.5, 5.0, 7.0]
    assert progress[0]["slots"] == 2
    assert progress[0]["slots_running"] == 1


def test_numbers_that_are_none_leave_the_file_readable(tmp_path: Path):
    write_part(
        tmp_path,
        *[
            a_report(an_episode(score=float("inf")), statistics={"kl": float("nan")})
            for _ in range(5)
        ],
    )
    assert "NaN" not in (tmp_path / "progress.jsonl").read_text()
    assert read(tmp_path)[2][0]["learner"] == {"kl": None}


def test_percentiles_of_the_whole_part_stand_in_its_description(tmp_path: Path):
    times = {"reaction_time_ms": [float(n) for n in range(101)]}
    write_part(tmp_path, a_report(times_ms=times), a_report(times_ms=times))
    part = read(tmp_path)[0]["parts"][0]
    assert part["times_ms"] == {
        "reaction_time_ms": {"p50": 50.0, "p95": 95.0, "p99": 99.0, "count": 202}
    }


def test_a_resumed_run_is_a_further_part_of_the_same_files(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode(0)))
    write_part(tmp_path, a_report(an_episode(1)), seed=2)
    run, episodes, _ = read(tmp_path)
    assert [part["settings"]["seed"] for part in run["parts"]] == [0, 2]
    assert [row["part"] for row in episodes] == ["1", "2"]


def test_a_run_that_was_cut_short_has_left_all_but_its_end(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode(0)), ended_by=None)
    run, episodes, _ = read(tmp_path)
    assert "ended_at" not in run["parts"][0]
    assert run["parts"][0]["summary"]["episodes"] == 1
    assert len(episodes) == 1


@pytest.mark.parametrize(
    "remotes",
    [
        "vnc://10.0.0.1:5900?password=hunter2",
        "http://hunter2@10.0.0.1:8080",
        "http://10.0.0.1:8080?n=2&token=hunter2",
    ],
)
def test_no_password_is_written_down(tmp_path: Path, remotes: str):
    broken = an_episode(outcome=Outcome.INFRA_FAILURE, reason=f"{remotes} does not answer")
    write_part(tmp_path, a_report(broken), remotes=remotes, ended_by=f"RemoteError: {remotes}")
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "hunter2" not in written
    assert "10.0.0.1" in written


def test_a_sample_is_exact_while_it_is_small():
    sample = Sample(most=10)
    sample.add([3.0, 1.0, 2.0])
    assert sample.summary() == {"p50": 2.0, "p95": 2.9, "p99": 2.98, "count": 3}
    assert Sample().summary() == {"p50": None, "p95": None, "p99": None, "count": 0}


def test_a_sample_of_many_is_bounded_and_near():
    sample = Sample(most=2000)
    sample.add(np.linspace(0.0, 1.0, 20_000).tolist())
    assert len(sample.numbers) == 2000
    assert sample.count == 20_000
    assert sample.summary()["p50"] == pytest.approx(0.5, abs=0.05)
