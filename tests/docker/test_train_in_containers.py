from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

RAYGYM = str(Path(sys.executable).with_name("raygym"))


@pytest.fixture
def environment(engine: DockerClient, flashgames_image: str) -> Iterator[dict[str, str]]:
    """Variables of a Ray, a cluster's name and a state directory of the test's own."""
    cluster = f"test-{secrets.token_hex(4)}"
    # Shorter than pytest's: a unix socket's path is limited.
    state = tempfile.mkdtemp(prefix="rgt-", dir="/dev/shm")
    yield {
        **os.environ,
        "RAY_ADDRESS": "local",
        "RAYGYM_CLUSTER": cluster,
        "RAYGYM_STATE": state,
    }
    for container in engine.containers.list(
        filters={"label": f"raygym.cluster={cluster}"}, ignore_removed=True
    ):
        container.remove(force=True)
    shutil.rmtree(state, ignore_errors=True)


def train(environment: dict[str, str], directory: Path) -> tuple[str, dict[str, Any]]:
    summary = directory / "summary.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "raygym.train", "--backend", "docker", "--workers", "1"),
            *("--steps", "60", "--client-id", "steady"),
            *("--logdir", str(directory / "run"), "--summary", str(summary)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(summary.read_text(encoding="utf-8"))


def remotes(environment: dict[str, str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [RAYGYM, "remotes", "ls"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [r for r in json.loads(done.stdout) if r["cluster"] == environment["RAYGYM_CLUSTER"]]


@pytest.mark.timeout(1200)
def test_the_main_job_runs_in_a_container_that_the_next_run_takes_over(
    environment: dict[str, str], tmp_path: Path
):
    said, summary = train(environment, tmp_path)
    assert "remotes: docker" in said
    assert (summary["env_steps"] >= 60, summary["mode"]) == (True, "lockstep")
    assert summary["remotes"] == {"started": 1, "lost": 0}
    assert set(summary["outcomes"]) <= {"ok"}
    (kept,) = remotes(environment)
    assert (kept["state"], kept["lease"]["holder"]) == ("running", None)
    assert kept["lease"]["client_id"] == "steady-0"
    shutil.rmtree(tmp_path / "run")
    train(environment, tmp_path)
    (again,) = remotes(environment)
    assert again["remote_id"] == kept["remote_id"]
    assert again["lease"]["token"] > kept["lease"]["token"]
