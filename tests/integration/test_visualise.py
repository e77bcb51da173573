"""``--visualise``: a person is told how to look in, and the wall is there."""

from __future__ import annotations

import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raygym.service.ray_running import ray_running
from raygym.training.config import TrainConfig
from raygym.training.trainer import StopFlag, Trainer, train


@pytest.fixture(scope="module", autouse=True)
def ray_once() -> Iterator[None]:
    with ray_running(4, has_dashboard=False):
        yield


@pytest.mark.parametrize("algo", ["a3c", "batched"])
def test_a_run_serves_the_wall_and_says_how_to_look_in(
    algo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DISPLAY", raising=False)
    output, stop, pages = io.StringIO(), StopFlag(), []
    note = Trainer._note

    def note_and_look(self: Trainer, report: Any) -> None:
        note(self, report)
        said = re.search(r"the wall.*: (http://127\.0\.0\.1:\d+/)", output.getvalue())
        if said and "look in with" in output.getvalue() and not pages:
            with urllib.request.urlopen(said[1], timeout=60) as answer:
                pages.append((said[1], answer.read().decode()))
            stop.request()

    monkeypatch.setattr(Trainer, "_note", note_and_look)
    config = TrainConfig(
        env="test.Catch-v0",
        algo=algo,
        mode="realtime",
        backend="process",
        num_slots=1,
        minutes=2.0,
        visualise=True,
        logdir=tmp_path / "run",
    )
    train(config, console=Console(file=output, width=300), stop=stop)
    assert pages, output.getvalue()
    url, page = pages[0]
    assert "raygym" in page
    assert "worker 0: look in with: vncviewer -Shared -ViewOnly -passwd " in output.getvalue()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
