from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import tyro

from raygym.errors import ConfigError
from raygym.training.config import TrainConfig


def test_every_promised_flag_is_there():
    config = tyro.cli(
        TrainConfig,
        args=shlex.split(
            "--env test.Catch-v0 --workers 3 --minutes 2.5 --steps 1000 --seed 7 --logdir a "
            "--resume b --summary c.json --remotes 3 --client-id me --visualise --fps 25 "
            "--backend fake --dashboard --learner.learning-rate 0.001"
        ),
    )
    assert (config.env, config.workers, config.minutes) == ("test.Catch-v0", 3, 2.5)
    assert (config.logdir, config.resume, config.summary) == (Path("a"), Path("b"), Path("c.json"))
    assert config.visualise
    assert config.dashboard
    assert config.learner.learning_rate == 0.001


@pytest.mark.parametrize(
    ("field", "value"),
    [("workers", 0), ("minutes", 0.0), ("steps", 0), ("fps", -1.0), ("seed", -1)],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: float):
    with pytest.raises(ConfigError, match=f"TrainConfig.{field}: expected"):
        TrainConfig(**{field: value})


def test_half_a_size_is_refused():
    with pytest.raises(ConfigError, match="both height_px and width_px"):
        TrainConfig(height_px=10)


def test_a_new_run_has_a_directory_of_its_own_name_and_time():
    directory = TrainConfig(env="test.Catch-v0").run_directory()
    assert directory.parent == Path("runs")
    assert directory.name.startswith("test.Catch-v0-2")


def test_a_resumed_run_stays_in_its_directory_unless_told_otherwise(tmp_path: Path):
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for resume in (checkpoint, checkpoint.parent, tmp_path / "run"):
        assert TrainConfig(resume=resume).run_directory() == tmp_path / "run"
    assert TrainConfig(resume=checkpoint, logdir=Path("x")).run_directory() == Path("x")
