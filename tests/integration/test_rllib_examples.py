"""The examples of RLlib run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_ppo_trains_on_rollouts_and_ends_by_itself() -> None:
    done = _run("rllib_rollouts.py", "CartPole-v1", "1")

    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.match(r" *\d+ steps, mean return +\d+\.\d$", last), done.stdout


def test_a_sweep_compares_its_trials() -> None:
    done = _run("tune_sweep.py", "1000")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("lr ") for line in lines) == 2, done.stdout
    assert lines[-1].startswith("best: lr "), done.stdout
