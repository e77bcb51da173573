from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from raygym.policies.a3c import A3CConfig
from raygym.training.config import TrainConfig
from raygym.training.trainer import train

CONFIG = TrainConfig(
    env="test.Catch-v0",
    backend="fake",
    # Few, so that reactions stay fresh beside other tests on two cores.
    workers=4,
    # Six frames a step: three decisions an episode, so that what was right is soon found out.
    fps=50 / 6,
    # With its own resets an episode would begin at any moment of a step.
    seed_episodes=True,
    # Small, so that gradients keep up with rollouts beside other tests on few cores.
    height_px=21,
    width_px=21,
    learner=A3CConfig(
        gamma=0.99,
        gae_lambda=1.0,
        learning_rate=7e-4,
        rollout_steps=3,
        entropy_weight=0.02,
        value_weight=0.05,
        max_grad_norm=40.0,
    ),
    # From the floor of -1 to the ceiling of 1, 0.8 is nine tenths of the way.
    target_score=0.8,
    minutes=16.0,
    seed=3,
)


@pytest.mark.alone
@pytest.mark.timeout(1100)
def test_the_whole_path_learns_to_catch_to_nine_tenths_of_the_ceiling(tmp_path: Path):
    output = io.StringIO()
    config = TrainConfig(**{**CONFIG.__dict__, "logdir": tmp_path})
    summary = train(config, console=Console(file=output, width=200))
    said = output.getvalue()
    # The episodes that end after the target was reached count too: chance may pull them below.
    assert summary["target"]["reached"] is not None, said
    assert summary["last_100_episodes"]["share_of_ceiling"] >= 0.8, said
    assert set(summary["outcomes"]) == {"ok"}, said
    assert summary["remotes"] == {"started": 4, "lost": 0}, said
    assert summary["actors_lost"] == 0, said
