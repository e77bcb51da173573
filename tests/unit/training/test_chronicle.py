from __future__ import annotations

import json
from pathlib import Path

import pytest

from raygym.training import chronicle as module
from raygym.training.accounts import Accounts
from raygym.training.chronicle import Chronicle
from raygym.training.config import TrainConfig
from tests.support.plans import SPEC, tiny_plan
from tests.support.run_files import a_report, an_episode


def chronicle(logdir: Path, **settings) -> tuple[Chronicle, Accounts]:
    plan = tiny_plan()
    accounts = Accounts(SPEC, plan.workers, seed=0)
    config = TrainConfig(env=SPEC.id, **settings)
    return Chronicle(config, plan, logdir, accounts, clock=lambda: 1.0), accounts


def play(kept: Chronicle, accounts: Accounts) -> None:
    report = a_report(an_episode())
    accounts.note(report, 1.0)
    kept.note(report)


def test_a_run_leaves_record_curves_and_report(tmp_path: Path):
    kept, accounts = chronicle(tmp_path)
    play(kept, accounts)
    kept.save()
    kept.end(accounts.summary(2.0), "--steps 10 reached")
    kept.leave(None, None, None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json",
        "episodes.csv",
        "progress.jsonl",
        "curves.png",
        "report.html",
    }
    assert "--steps 10 reached" in (tmp_path / "report.html").read_text()


def draw_nothing(*_: object) -> None:
    pass


def test_a_run_that_fails_says_of_what_it_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "write_page", draw_nothing)
    kept, accounts = chronicle(tmp_path)
    play(kept, accounts)
    error = RuntimeError("the weights are gone")
    kept.leave(RuntimeError, error, None)
    part = json.loads((tmp_path / "run.json").read_text())["parts"][0]
    assert part["ended_by"] == "RuntimeError: the weights are gone"
    assert "the weights are gone" in (tmp_path / "report.html").read_text()


def test_without_a_report_the_record_is_kept_all_the_same(tmp_path: Path):
    kept, accounts = chronicle(tmp_path, report=False)
    play(kept, accounts)
    kept.save()
    kept.leave(None, None, None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json",
        "episodes.csv",
        "progress.jsonl",
    }


def test_a_report_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_page", draw_nothing)
    monkeypatch.setattr(module, "write_report", broken)
    kept, accounts = chronicle(tmp_path)
    play(kept, accounts)
    kept.leave(None, None, None)
    assert "the disk is full" in caplog.text
    assert (tmp_path / "episodes.csv").read_text().count("\n") == 2
