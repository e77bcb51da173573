"""RLlib's algorithms, taught the quiz of ``faulty_env`` by our EnvRunner.

PPO learns the same twice for one seed.
"""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from raygym.core import Float32Array, Rollout
from raygym.rllib.config import rollout_config
from raygym.rllib.env_runner import ServiceEnvRunner
from raygym.vector.inline_slots import InlineSlots
from tests.support.cut_rollouts import without_mask
from tests.support.fake_service import InlineService
from tests.support.faulty_env import Kind, quiz
from tests.support.quiz_learners import CHECKPOINTS, GAMMA, Lesson, examine

SLOTS = 6
STEPS = 20
ROLLOUT_STEPS = 10
"""Few, as a sample ends with a whole Rollout, and what failed does not count for it."""
UPDATES: dict[type[AlgorithmConfig], int] = {PPOConfig: 48, IMPALAConfig: 96, APPOConfig: 96}
"""Iterations, by algorithm."""


class BlindService(InlineService):
    """Calls what failed an end of its episode, as if nobody had thought of failures.

    RLlib's episodes would leave out a step that is only truncated, whatever the mask says.
    """

    def next_rollout(self, *, timeout_s: float | None = None) -> Rollout | None:
        rollout = super().next_rollout(timeout_s=timeout_s)
        if rollout is None:
            return None
        failed = ~rollout.mask
        return dataclasses.replace(
            without_mask(rollout),
            terminated=rollout.terminated | failed,
            truncated=rollout.truncated & ~failed,
        )


class Module:
    """The learner's network as a policy that is examined.

    Args:
        module: An RLModule with a value function.
        seed: Of the actions drawn.
    """

    def __init__(self, module: Any, seed: int) -> None:
        self._module = module
        self._random = np.random.default_rng(seed)

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns nothing: it has no memory."""
        return ()

    @torch.inference_mode()
    def act(self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]) -> Any:
        """Draws actions, and says what the observations are worth."""
        batch = {Columns.OBS: torch.from_numpy(observations)}
        logits = self._module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS].numpy()
        values = self._module.compute_values(batch).numpy()
        actions = (logits + self._random.gumbel(size=logits.shape)).argmax(axis=-1)
        return actions, np.zeros(len(actions), np.float32), values, ()


def teach_rllib(
    kind: Kind | None,
    seed: int,
    *,
    has_mask: bool = True,
    algo: type[AlgorithmConfig] = PPOConfig,
) -> Lesson:
    """Trains all in this process; Ray must run."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    envs: list[gymnasium.Env[Any, Any]] = []

    def env_of(slot: int) -> gymnasium.Env[Any, Any]:
        envs.append(quiz(kind, 1000 * seed + slot, is_picture=False))
        return envs[-1]

    service = InlineService if has_mask else BlindService
    with mock.patch.object(ServiceEnvRunner, "make_service", staticmethod(service)):
        config = _config(algo, lambda _first, count: InlineSlots(env_of, count), seed)
        algorithm = config.build_algo()
    curve: list[float] = []
    values = np.empty(0, np.float32)
    try:
        module = algorithm.learner_group._learner.module["default_policy"].unwrapped()
        for update in range(1, UPDATES[algo] + 1):
            algorithm.train()
            if update % (UPDATES[algo] // CHECKPOINTS) == 0:
                score, values = examine(Module(module, seed), is_picture=False)
                curve.append(score)
        weights = torch.nn.utils.parameters_to_vector(module.parameters())
    finally:
        algorithm.stop()
    failures = sum(getattr(env, "failures", 0) for env in envs)
    return Lesson(tuple(curve), values, weights.detach().numpy().copy(), failures)


def _config(algo: type[AlgorithmConfig], slots: Any, seed: int) -> Any:
    config: Any = algo()
    config.debugging(seed=seed, log_level="ERROR").learners(num_learners=0)
    env = quiz(None, 0, is_picture=False)
    rollout_config(
        config,
        slots,
        num_slots=SLOTS,
        rollout_steps=ROLLOUT_STEPS,
        observation_space=env.observation_space,
        action_space=env.action_space,
        rl_module_spec=RLModuleSpec(
            model_config=DefaultModelConfig(fcnet_hiddens=[16], vf_share_layers=False)
        ),
        seed=seed,
    )
    config.training(
        gamma=GAMMA, lr=5e-3, train_batch_size_per_learner=SLOTS * STEPS, entropy_coeff=0.01
    )
    if algo is PPOConfig:
        return config.training(
            lambda_=0.95, minibatch_size=SLOTS * STEPS, num_epochs=2, use_kl_loss=False
        )
    config.env_runners(rollout_fragment_length=STEPS).reporting(min_time_s_per_iteration=0)
    return config.training(vf_loss_coeff=0.5)
