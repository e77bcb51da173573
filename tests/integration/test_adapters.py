"""Other libraries learn over ``raygym.make_vec``: their examples run as they are written."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 280
RANDOM_RETURN = 25.0
"""CartPole-v1 gives 22 to random actions."""


def _last_line(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(TIMEOUT_S + 20)
@pytest.mark.parametrize("name", ["cleanrl_ppo.py", "stable_baselines3_ppo.py"])
def test_ppo_learns_over_make_vec(name):
    said = re.fullmatch(
        r"(\d+) steps: mean return ([\d.]+)", _last_line(name, "CartPole-v1", "8192")
    )
    assert said is not None
    assert int(said[1]) == 8192
    assert float(said[2]) > RANDOM_RETURN


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_torchrl_collects_over_make_vec():
    said = re.fullmatch(
        r"(\d+) whole steps, (\d+) episodes: mean reward of a step 1.00",
        _last_line("torchrl_collector.py", "CartPole-v1", "800"),
    )
    assert said is not None
    assert int(said[1]) == 800
    assert int(said[2]) > 800 / 100


def test_advantages_stop_before_a_step_that_failed_and_ignore_its_reward():
    ppo = _load("cleanrl_ppo")
    gamma, carry = ppo.GAMMA, ppo.GAMMA * ppo.LAMBDA
    values = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    rewards = torch.tensor([[1.0], [1.0], [1e6], [1.0]])
    mask = torch.tensor([[True], [True], [False], [True]])
    no_ends = torch.zeros(4, 1, dtype=torch.bool)

    found = ppo.advantages(rewards, values, no_ends, mask, torch.tensor([16.0]))

    before = 1 + gamma * 4 - 2
    expected = [1 + gamma * 2 - 1 + carry * before, before]
    np.testing.assert_allclose(found[:2, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[3, 0], 1 + gamma * 16 - 8, rtol=1e-6)


def test_advantages_take_the_value_of_the_last_observation_unless_the_episode_ended_by_itself():
    ppo = _load("cleanrl_ppo")
    values = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    terminated = torch.tensor([[True, False], [False, False]])
    mask = torch.tensor([[True, True], [False, False]])

    found = ppo.advantages(torch.ones(2, 2), values, terminated, mask, torch.zeros(2))

    np.testing.assert_allclose(found[0], [1 - 1, 1 + ppo.GAMMA * 2 - 1], rtol=1e-6)


class FailingEnv(gymnasium.Env[Any, Any]):
    """Every third episode fails with its fourth step, whose reward is absurd."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    absurd = 1e6

    def __init__(self) -> None:
        self._episode = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._episode += 1
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        has_failed = self._steps == 4 and self._episode % 3 == 2
        outcome = "infra_failure" if has_failed else "ok"
        reward = self.absurd if has_failed else float(self._steps)
        return self._seen(), reward, self._steps == 6, has_failed, {"outcome": outcome}

    def _seen(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


@pytest.fixture
def failing() -> Iterator[gymnasium.vector.VectorEnv[Any, Any, Any]]:
    envs = SyncVectorEnv([FailingEnv] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    yield envs
    envs.close()


def test_failed_steps_enter_no_loss_of_stable_baselines3(failing):
    example = _load("stable_baselines3_ppo")
    envs = example.RaygymVecEnv(failing)
    model = example.PPO(
        "MlpPolicy",
        envs,
        n_steps=64,
        batch_size=32,
        n_epochs=1,
        rollout_buffer_class=example.MaskedRolloutBuffer,
        rollout_buffer_kwargs={"envs": envs},
        device="cpu",
        seed=1,
    )
    model.learn(128)
    buffer = model.rollout_buffer
    seen = torch.cat([batch.returns for batch in buffer.get(32)])
    failed = int(np.count_nonzero(~buffer.is_whole))
    assert failed == 2 * 4
    assert len(seen) == 128 - failed
    assert seen.abs().max() < 100
    assert np.abs(buffer.advantages).max() < 100


def test_torchrl_is_told_which_steps_failed():
    example = _load("torchrl_collector")
    made = SyncVectorEnv([FailingEnv] * example.NUM_ENVS, autoreset_mode=AutoresetMode.DISABLED)
    envs = example.GymWrapper(made)
    envs.set_info_dict_reader(example.WholeReader())
    try:
        collected = next(iter(example.Collector(envs, None, frames_per_batch=160)))
    finally:
        envs.close()
    rewards = collected["next", "reward"][..., 0]
    is_whole = collected["next", "is_whole"]
    assert is_whole.shape == rewards.shape
    assert torch.equal(~is_whole, rewards == FailingEnv.absurd)
    assert (~is_whole).any()
