"""A run outlives whoever plays in it, whatever learns."""

from __future__ import annotations

import io
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorReport
from raygym.training.config import TrainConfig
from raygym.training.trainer import StopFlag, Trainer, train

STEPS_BEFORE, STEPS_AFTER = 50, 50


@pytest.fixture(scope="module", autouse=True)
def ray_once() -> Iterator[None]:
    with ray_running(8, has_dashboard=False):
        yield


@pytest.mark.timeout(300)
@pytest.mark.parametrize("algo", ["batched", "ppo", "impala"])
def test_a_run_goes_on_where_an_actor_is_killed(
    algo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Kills the process that plays slot 0, and stops once another one has played it for a while."""
    stop = StopFlag()
    steps: Counter[int] = Counter()
    killed: list[int] = []
    note = Trainer._note

    def note_and_kill(self: Trainer, report: Any) -> None:
        note(self, report)
        if not isinstance(report, ActorReport) or report.sampler.slot != 0:
            return
        steps[report.pid] += report.sampler.steps
        if not killed and steps[report.pid] >= STEPS_BEFORE:
            killed.append(report.pid)
            os.kill(report.pid, signal.SIGKILL)
        elif killed and report.pid != killed[0] and steps[report.pid] >= STEPS_AFTER:
            stop.request()

    monkeypatch.setattr(Trainer, "_note", note_and_kill)
    output = io.StringIO()
    config = TrainConfig(
        env="CartPole-v1", algo=algo, num_slots=2, minutes=3.0, logdir=tmp_path / "run"
    )
    summary = train(config, console=Console(file=output, width=200), stop=stop)
    assert len(steps) == 2, output.getvalue()
    assert min(steps.values()) >= STEPS_AFTER, output.getvalue()
    assert summary["actors_lost"] >= 1
    assert killed[0] != os.getpid()
    assert "its actor ended and is replaced" in output.getvalue()
