"""Makes RLlib's algorithms learn from rollouts of the service."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import gymnasium
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.impala.impala import IMPALAConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from raygym.environments.slots import make_slots
from raygym.errors import ConfigError
from raygym.rllib.env_runner import ServiceEnvRunner
from raygym.rllib.modules import default_model, is_picture, module_class
from raygym.rllib.settings import KEY, ServiceSettings
from raygym.service.spectators import Show
from raygym.vector.slots import Slots
from raygym.vector.supervision import Supervision

Config = TypeVar("Config", bound=AlgorithmConfig)
Space = gymnasium.Space[Any]


def rollout_config(
    algo_config: Config,
    env_id: str | Callable[[int, int], Slots],
    *,
    num_slots: int,
    slots_per_actor: int | None = None,
    frame_stack: int = 1,
    make_kwargs: Mapping[str, Any] | None = None,
    reward_scale: float = 1.0,
    rollout_steps: int | None = None,
    prefetch: int | None = None,
    num_env_runners: int = 0,
    use_lstm: bool = False,
    lstm_cell_size: int = 256,
    max_seq_len: int = 20,
    rl_module_spec: RLModuleSpec | None = None,
    observation_space: Space | None = None,
    action_space: Space | None = None,
    seed: int = 0,
    supervision: Supervision | None = None,
    actor_options: Mapping[str, Any] | None = None,
    show: Show | None = None,
    patience_s: float = 600.0,
) -> Config:
    """Has an algorithm sample through the rollout service instead of RLlib's EnvRunners.

    Give the algorithm its training settings before or after; its environment, runners and
    network are set here. PPO samples with the weights of now; IMPALA and APPO let the actors
    play ahead while the learner learns.

    Args:
        algo_config: A PPOConfig, IMPALAConfig or APPOConfig; changed and returned.
        env_id: As ``raygym.make`` takes it, or what makes the Slots of an actor.
        num_slots: Environments, over all runners.
        slots_per_actor: Environments of one actor; None lets the service choose.
        frame_stack: Newest frames in one observation, along its last axis.
        make_kwargs: For ``raygym.make``.
        reward_scale: Factor between a reward and what is learned from; returns are not scaled.
        rollout_steps: Most steps of one Rollout; None: 64.
        prefetch: Rollouts that an actor plays ahead; None: 0 for PPO, 1 for the others.
        num_env_runners: Remote runners, each with a service of its own and its share of the
            slots; 0 keeps one service in the driver, whose actors do all the work.
        use_lstm: Whether the network remembers.
        lstm_cell_size: Size of its memory.
        max_seq_len: Steps that gradients go back through it.
        rl_module_spec: A module of one's own; None takes RLlib's default one, which gets
            filters that fit the pictures.
        observation_space: With the frames stacked; None asks the environment, which is made
            for that once in this process.
        action_space: The same.
        seed: Of the environments and the actions; ``debugging(seed=)`` goes before it.
        supervision: Time limits of the slots; None takes the defaults.
        actor_options: Ray's, for the service's actors.
        show: Who looks on while they play; None for nobody.
        patience_s: A runner that sees no rollout for so long raises NoRollouts.

    Returns:
        ``algo_config``.

    Raises:
        ConfigError: A setting makes no sense, or there is no network for the observations.
    """
    if (observation_space is None) != (action_space is None):
        raise ConfigError("rollout_config: give observation_space and action_space, or neither")
    if num_env_runners > num_slots:
        raise ConfigError(
            f"rollout_config: {num_env_runners} runners need as many slots, got {num_slots}"
        )
    if prefetch is None:
        prefetch = int(isinstance(algo_config, IMPALAConfig))
    settings = ServiceSettings(
        env=env_id,
        num_slots=num_slots,
        slots_per_actor=slots_per_actor,
        rollout_steps=rollout_steps,
        prefetch=prefetch,
        frame_stack=frame_stack,
        reward_scale=reward_scale,
        seed=seed,
        make_kwargs=dict(make_kwargs or {}),
        supervision=supervision,
        actor_options=actor_options,
        show=show,
        patience_s=patience_s,
    )
    if observation_space is None or action_space is None:
        observation_space, action_space = discover_spaces(settings)
    if rl_module_spec is None:
        rl_module_spec = RLModuleSpec(
            module_class=module_class(algo_config) if is_picture(observation_space) else None,
            model_config=default_model(
                observation_space,
                is_recurrent=use_lstm,
                lstm_cell_size=lstm_cell_size,
                max_seq_len=max_seq_len,
            ),
        )
    algo_config.environment(
        None,
        observation_space=observation_space,
        action_space=action_space,
        env_config={KEY: settings},
    )
    algo_config.env_runners(
        env_runner_cls=ServiceEnvRunner,
        num_env_runners=num_env_runners,
        num_envs_per_env_runner=math.ceil(num_slots / max(1, num_env_runners)),
    )
    algo_config.rl_module(rl_module_spec=rl_module_spec)
    return algo_config


def discover_spaces(settings: ServiceSettings) -> tuple[Space, Space]:
    """Makes one slot to ask for its spaces, and ends it.

    Returns:
        The observation space with the frames stacked, and the action space.
    """
    slots = (
        make_slots(
            settings.env,
            1,
            frame_stack=settings.frame_stack,
            vectorization="inline",
            **settings.make_kwargs,
        )
        if isinstance(settings.env, str)
        else settings.env(0, 1)
    )
    try:
        return slots.single_observation_space, slots.single_action_space
    finally:
        slots.close()
