from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import raygym
from raygym.catalog import Runtime, load_catalog
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.runtimes.x_program import XProgram, XProgramError

ENV = "own.Script-v0"
RUNTIME = """
name: script
task: script.py:Script
screen_px: [160, 120]
envs:
  - id: own.Script-v0
    fps: 25
    actions: ["", "ArrowLeft"]
    max_episode_s: {limit_s}
"""
TASK = """
from raygym.runtimes.x_program import XProgram


class Script(XProgram):
    def command(self, env_id, seed):
        return ["sh", "-c", {script!r}, "sh", str(seed)]

    def on_line(self, line):
        if line == "over":
            self.done(-1.0)
        else:
            self.reward(float(line))
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RealtimeEnv]]:
    made: list[RealtimeEnv] = []

    def start(script: str, *, limit_s: float = 60) -> RealtimeEnv:
        (tmp_path / "runtime.yaml").write_text(RUNTIME.format(limit_s=limit_s), encoding="utf-8")
        (tmp_path / "script.py").write_text(TASK.format(script=script), encoding="utf-8")
        monkeypatch.setenv("RAYGYM_RUNTIMES", str(tmp_path))
        env = raygym.make(ENV, backend="process")
        assert isinstance(env, RealtimeEnv)
        made.append(env)
        return env

    yield start
    for env in made:
        env.close()


def play(env: RealtimeEnv, most_steps: int = 200):
    for _ in range(most_steps):
        *_, terminated, truncated, info = stepped = env.step(0)
        if terminated or truncated:
            return stepped
    raise AssertionError(f"no end within {most_steps} steps; the last info was {info}")


def test_a_program_is_played_by_what_it_prints(make):
    env = make("echo starting; echo ready; sleep 0.3; echo 2; echo $1; sleep 0.3; echo over")
    observation, _ = env.reset(seed=7)
    assert observation.shape == (120, 160, 3)
    assert observation.dtype == np.uint8
    _, _, terminated, truncated, info = play(env)
    assert (terminated, truncated, info["outcome"]) == (True, False, "ok")
    assert info["episode_score"] == 2 + 7 - 1


def test_an_episode_is_cut_at_its_time_limit_and_the_next_one_runs(make):
    env = make("echo ready; echo 1; exec sleep 30", limit_s=1)
    for _ in range(2):
        env.reset()
        _, _, terminated, truncated, info = play(env)
        assert (terminated, truncated, info["outcome"]) == (False, True, "ok")
        assert info["reason"] == "time_limit"


def test_a_program_that_ends_in_the_middle_has_failed_and_is_started_anew(make):
    env = make("echo ready; sleep 0.3; echo 5; sleep 0.2; exit 3")
    env.reset()
    _, _, _, truncated, info = play(env)
    assert (truncated, info["outcome"]) == (True, "env_failure")
    assert "exit code 3" in info["detail"]
    env.reset()
    assert env.step(0)[4]["outcome"] == "ok"


def test_a_line_that_the_task_cannot_read_fails_the_episode(make):
    env = make("echo ready; sleep 0.2; echo nonsense; exec sleep 30")
    env.reset()
    _, _, _, truncated, info = play(env)
    assert (truncated, info["outcome"]) == (True, "env_failure")
    assert "ValueError" in info["detail"]


def test_a_program_that_is_never_ready_is_an_error_that_ends_with_the_cause(make):
    env = make("exit 4")
    with pytest.raises(RemoteFailedToStart, match="sh ended with exit code 4 before it was ready"):
        env.reset()


def test_a_program_that_says_nothing_is_not_waited_for_without_end(tmp_path: Path):
    class Mute(XProgram):
        ready_timeout_s = 0.2

        def command(self, env_id: str, seed: int) -> list[str]:
            return ["sleep", "30"]

    class NoScreen:
        x_environment: ClassVar[dict[str, str]] = {}

    spec = load_catalog().env("test.Catch-v0")
    runtime = Runtime(name="mute", screen_px=(160, 120))

    async def run() -> None:
        task = Mute(NoScreen(), directory=tmp_path, runtime=runtime, envs={spec.id: spec})
        try:
            with pytest.raises(XProgramError, match=r"did not print 'ready' within 0\.2 s"):
                await task.reset(spec.id, seed=1, fps=25)
            with pytest.raises(ConfigError, match="unknown environment 'x' of mute"):
                await task.reset("x", seed=1, fps=25)
        finally:
            await task.close()

    asyncio.run(run())
