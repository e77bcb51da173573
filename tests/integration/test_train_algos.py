"""Every algorithm of ``python -m raygym.train``, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raygym.evaluate import EvaluateConfig, evaluate, make_match


def train(directory: Path, *flags: str, timeout_s: float = 170) -> dict[str, Any]:
    summary = directory / "summary.json"
    command = [
        *(sys.executable, "-m", "raygym.train"),
        *("--logdir", str(directory / "run"), "--summary", str(summary), *flags),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=directory
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(summary.read_text())
    return told


@pytest.mark.parametrize("algo", ["impala", "appo"])
def test_it_learns_for_a_while(tmp_path: Path, algo: str) -> None:
    told = train(
        tmp_path, "--env", "CartPole-v1", "--algo", algo, "--num-slots", "4", "--steps", "2000"
    )
    assert told["env_steps"] >= 2000
    assert told["outcomes"]["ok"] == told["episodes"] > 0


@pytest.mark.parametrize("algo", ["batched", "ppo"])
def test_it_learns_for_a_while_and_goes_on_from_its_checkpoint(tmp_path: Path, algo: str) -> None:
    flags = ("--env", "CartPole-v1", "--algo", algo, "--num-slots", "4")
    first = train(tmp_path, *flags, "--steps", "3000")
    assert first["env_steps"] >= 3000
    assert first["outcomes"]["ok"] == first["episodes"] > 0
    assert first["workers"] == 4

    second = train(tmp_path, *flags, "--steps", str(first["env_steps"] + 1000), "--resume", "run")
    assert second["env_steps"] >= first["env_steps"] + 1000
    assert second["env_steps_this_run"] < second["env_steps"]


def test_an_agent_that_sees_several_frames_is_evaluated_as_it_was_trained(tmp_path: Path) -> None:
    train(
        tmp_path,
        *("--env", "gym-core.PongDeterministic-v3", "--backend", "local", "--algo", "batched"),
        *("--num-slots", "4", "--steps", "600", "--batched.rollout-steps", "64"),
    )
    config = EvaluateConfig(checkpoint=tmp_path / "run", episodes=1, backend="local")
    result = evaluate(config, make_match(config))
    assert -21 <= result["mean_score"] <= 21


def test_few_actors_of_a3c_play_many_slots(tmp_path: Path) -> None:
    told = train(
        tmp_path,
        *("--env", "gym-core.PongDeterministic-v3", "--backend", "local"),
        *("--workers", "2", "--num-slots", "6", "--steps", "1200"),
    )
    assert told["env_steps"] >= 1200
    assert told["workers"] == 6


def test_in_real_time_somebody_else_plays_while_the_learner_learns(tmp_path: Path) -> None:
    told = train(
        tmp_path,
        *("--env", "test.Catch-v0", "--algo", "batched", "--backend", "fake"),
        *("--num-slots", "2", "--num-learners", "1", "--steps", "400"),
    )
    assert told["mode"] == "realtime"
    assert told["env_steps"] >= 400


def test_a_checkpoint_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    flags = ("--env", "CartPole-v1", "--num-slots", "2", "--num-learners", "1")
    train(tmp_path, *flags, "--algo", "batched", "--steps", "200")
    with pytest.raises(AssertionError, match="no checkpoint of RLlib"):
        train(tmp_path, "--env", "CartPole-v1", "--algo", "ppo", "--resume", "run")
