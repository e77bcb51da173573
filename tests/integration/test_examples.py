"""The examples run as they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from torch.utils.tensorboard import SummaryWriter

import raygym

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_random_agent_plays_and_reports_its_reaction_time():
    done = _run("random_agent.py", "test.Catch-v0", "60")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 3
    assert all("outcome ok" in line for line in lines)
    assert "ms" in lines[-1]


def test_many_remotes_are_driven_at_once():
    done = _run("many_remotes.py", "test.Catch-v0", "3", "100")
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout.split(": ")[1].split()[0])
    assert 200 < steps <= 300


def test_a_learning_curve_is_plotted(tmp_path):
    with SummaryWriter(str(tmp_path / "run")) as writer:
        for step in range(30):
            writer.add_scalar("global/episode_reward", step * 2.0, step, walltime=1000 + 60 * step)

    done = _run("plot_learning.py", str(tmp_path / "run"), str(tmp_path / "curve.png"))

    assert done.returncode == 0, done.stderr
    assert "30 episodes, last mean 49.0" in done.stdout
    assert cv2.imread(str(tmp_path / "curve.png")).shape == (540, 960, 3)


def test_curves_of_several_runs_share_a_picture(tmp_path):
    for name, factor in (("a", 1.0), ("b", 3.0)):
        with SummaryWriter(str(tmp_path / name)) as writer:
            for step in range(5):
                writer.add_scalar("global/episode_reward", step * factor, step, walltime=step)

    runs = [str(tmp_path / name) for name in ("a", "b")]
    done = _run("plot_learning.py", *runs, str(tmp_path / "curve.png"))

    assert done.returncode == 0, done.stderr
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()[:2]] == [
        "5 episodes, last mean 2.0",
        "5 episodes, last mean 6.0",
    ]
    assert (tmp_path / "curve.png").is_file()


def test_a_run_without_episodes_is_one_clear_line(tmp_path):
    done = _run("plot_learning.py", str(tmp_path), str(tmp_path / "curve.png"))
    assert done.returncode == 1
    assert "no episode is in its TensorBoard files yet" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_every_example_is_listed_in_the_readme(path):
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text()


def test_the_remote_agent_plays_what_another_process_hosts():
    with raygym.serve_env("CartPole-v1", token="t/k") as server:
        address = f"grpc://{server.endpoint}?token=t%2Fk"
        done = _run("remote_agent.py", address, "--episodes", "2", "--render-mode", "rgb_array")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["episode 0", "episode 1"]
    assert all("last picture (400, 600, 3)" in line for line in lines)
