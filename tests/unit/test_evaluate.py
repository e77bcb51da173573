from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from raygym import evaluate as module
from raygym.config import ObservationConfig
from raygym.errors import ConfigError, RemoteError
from raygym.evaluate import EvaluateConfig, Match, confidence_interval, describe, evaluate
from raygym.policies import checkpoint as checkpoints
from raygym.policies.a3c import A3CConfig, SharedParameters
from raygym.policies.baselines import HoldPolicy
from raygym.policies.checkpoint import Checkpoint
from raygym.policies.networks import NetworkConfig
from raygym.training.factories import EnvSettings
from tests.support.plans import SPEC
from tests.support.tiny_envs import ChoiceEnv, CountingEnv

BASELINE = {"policy": "hold", "env": "test.Tiny-v0"}


class PictureEnv(CountingEnv):
    def render(self):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :, 0] = 255
        return picture


def match(player=None) -> Match:
    settings = EnvSettings(
        env=SPEC.id,
        addresses=None,
        client_id="test",
        backend=None,
        observation=ObservationConfig(),
        fps=10.0,
    )
    return Match(player or HoldPolicy(1), "baseline hold", SPEC, settings)


def play(env, config: EvaluateConfig, player=None) -> dict:
    return evaluate(config, match(player), env_factory=lambda settings, slot: env)


def test_the_result_has_mean_share_and_interval():
    env = CountingEnv(("ok:4", "cut:6"))
    result = play(env, EvaluateConfig(**BASELINE, episodes=4))
    assert result["scores"] == [4.0, 6.0, 4.0, 6.0]
    assert result["mean_score"] == 5.0
    assert result["env_steps"] == 20
    low, high = result["confidence_95"]
    assert 4.0 <= low < 5.0 < high <= 6.0
    assert result["share_of_ceiling"] == pytest.approx((5 + 10 / 3) / (10 + 10 / 3))
    assert env.is_closed
    text = describe(result)
    assert "test.Tiny-v0, baseline hold: 4 episodes" in text
    assert "of ceiling 62.5 %" in text


def test_failed_episodes_do_not_count_and_are_told():
    result = play(CountingEnv(("infra_failure:2", "ok:3")), EvaluateConfig(**BASELINE, episodes=2))
    assert result["scores"] == [3.0, 3.0]
    assert result["failures"] == ["infra_failure: it broke"] * 2
    assert "2 episodes failed and do not count" in describe(result)


def test_an_environment_that_only_fails_ends_with_an_error():
    env = CountingEnv(("env_failure:2",))
    with pytest.raises(RemoteError, match=r"5 episodes of test\.Tiny-v0 failed, 0 did not"):
        play(env, EvaluateConfig(**BASELINE))
    assert env.is_closed


def test_each_episode_is_reset_with_a_seed_of_its_own():
    env = CountingEnv(("ok:2",))
    play(env, EvaluateConfig(**BASELINE, episodes=3, seed=40))
    assert env.seeds == [40, 41, 42]


def test_the_video_holds_every_step(tmp_path: Path):
    path = tmp_path / "new" / "out.mp4"
    play(PictureEnv(("ok:5",)), EvaluateConfig(**BASELINE, episodes=2, video=path))
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert video.get(cv2.CAP_PROP_FPS) == 10.0
    is_read, picture = video.read()
    assert is_read
    assert picture.shape == (384, 512, 3), "a small picture is scaled up by a whole number"
    blue, _, red = picture.mean(axis=(0, 1))
    assert red > 200 > 50 > blue
    video.release()


def test_the_interval_covers_the_mean_of_most_samples():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = confidence_interval(random.normal(3.0, 1.0, size=20))
        hits += low <= 3.0 <= high
    assert 85 <= hits <= 99


def test_one_score_gives_an_interval_of_no_width():
    assert confidence_interval([2.5]) == (2.5, 2.5)


def save_checkpoint(directory: Path, env: str = "test.Catch-v0") -> Path:
    network = NetworkConfig(
        observation_shape=(12, 12, 1), action_count=3, filter_count=4, lstm_size=8
    )
    held = Checkpoint(
        env=env,
        observation=ObservationConfig(height_px=12, width_px=12, is_grey=True),
        fps=20.0,
        network=network,
        learner=A3CConfig(),
        parameters=SharedParameters(network, A3CConfig(), seed=0).state(),
        env_steps=77,
        episodes=1,
        seed=0,
    )
    return checkpoints.save(held, directory)


def test_a_checkpoint_is_played_as_it_was_trained(tmp_path: Path):
    config = EvaluateConfig(checkpoint=save_checkpoint(tmp_path), episodes=2)
    made = module.make_match(config)
    assert made.name == "agent after 77 steps"
    assert made.settings.fps == 20.0
    assert made.settings.observation.height_px == 12
    result = evaluate(config, made, env_factory=lambda settings, slot: ChoiceEnv())
    assert len(result["scores"]) == 2


def test_the_same_seed_plays_the_same(tmp_path: Path):
    path = save_checkpoint(tmp_path)

    def scores(seed: int) -> list[float]:
        config = EvaluateConfig(checkpoint=path, episodes=8, seed=seed)
        made = module.make_match(config)
        return evaluate(config, made, env_factory=lambda settings, slot: ChoiceEnv())["scores"]

    assert scores(1) == scores(1)
    assert scores(1) != scores(2)


def test_a_checkpoint_of_another_environment_is_refused(tmp_path: Path):
    config = EvaluateConfig(checkpoint=save_checkpoint(tmp_path), env="flashgames.NeonRace-v0")
    with pytest.raises(ConfigError, match=r"trained on test\.Catch-v0, not on flashgames"):
        module.make_match(config)


@pytest.mark.parametrize(("policy", "action"), [("hold", 2), ("random", None), ("scripted", None)])
def test_baselines_are_named_and_hold_keeps_the_key_up(policy: str, action: int | None):
    made = module.make_match(EvaluateConfig(policy=policy, env="flashgames.NeonRace-v0"))
    assert made.name == f"baseline {policy}"
    assert made.settings.fps == 12.5
    if action is not None:
        assert made.player.act(np.zeros((1, 1, 1), np.uint8), {}) == action


def test_an_action_that_is_not_there_cannot_be_held():
    with pytest.raises(ConfigError, match="hold_action: expected 0 to 2, got 3"):
        module.make_match(EvaluateConfig(policy="hold", env="test.Catch-v0", hold_action=3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a checkpoint or a baseline"),
        (["--policy", "random"], "--policy random needs --env"),
        (["/nowhere"], "no checkpoint at /nowhere"),
        (["--policy", "random", "--env", "test.Nothing-v0"], "unknown environment"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments, said: str, capsys):
    try:
        status = module.main(arguments)
    except SystemExit as end:  # what tyro itself finds out
        status = end.code
    assert status == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_evaluations_side_by_side_do_not_contend_for_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert module.main(["/nowhere"]) == 2
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
