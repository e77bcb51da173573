"""The file that tells Prometheus where a Ray serves its metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from raygym.service.metrics.discovery import discovery_file

NODES = [
    {"NodeManagerAddress": "10.0.0.5", "MetricsExportPort": 4321, "Alive": True},
    {"NodeManagerAddress": "10.0.0.6", "MetricsExportPort": 4322, "Alive": False},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a Ray with two nodes keeps its files; one of them has died."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray, "nodes", lambda: NODES)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


def test_the_file_names_the_nodes_that_live_and_goes_with_the_run(folder: Path) -> None:
    with discovery_file() as path:
        assert path == folder / f"prom_metrics_service_discovery_raygym_{os.getpid()}.json"
        assert json.loads(path.read_text()) == [
            {"labels": {"job": "ray"}, "targets": ["10.0.0.5:4321"]}
        ]
    assert list(folder.iterdir()) == []


def test_files_of_killed_runs_go_and_those_of_others_stay(folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    of_killed = folder / f"prom_metrics_service_discovery_raygym_{ended}.json"
    stay = [
        folder / f"prom_metrics_service_discovery_raygym_{os.getppid()}.json",
        folder / "prom_metrics_service_discovery.json",
        folder / "prom_metrics_service_discovery_raygym_mine.json",
    ]
    for file in [of_killed, *stay]:
        file.write_text("[]")
    with discovery_file():
        pass
    assert sorted(folder.iterdir()) == sorted(stay)


def test_a_folder_that_cannot_be_written_does_not_end_the_run(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    folder.write_text("a file in the folder's place")
    with discovery_file() as path:
        assert path is None
    assert "metrics.not_announced" in caplog.text
