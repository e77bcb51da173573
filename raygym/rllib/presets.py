"""Training settings for few slots on few cores, to begin with."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo.appo import APPOConfig
from ray.rllib.algorithms.impala.impala import IMPALAConfig
from ray.rllib.algorithms.ppo.ppo import PPOConfig

from raygym.errors import ConfigError

Algorithm: TypeAlias = Literal["ppo", "impala", "appo"]
"""RLlib's algorithms that learn from rollouts."""

_LEAST_BATCH = {"pictures": 512, "vectors": 1024}
"""Steps of one update of PPO."""
_PPO_MINIBATCH = 128
_FRAGMENT = 64
"""Steps of a slot in one update of IMPALA and APPO."""
_LEAST_ASYNC_BATCH = 256
_GAMMA = {"pictures": 0.97, "vectors": 0.99}


def preset(algorithm: Algorithm, *, num_slots: int, has_pictures: bool) -> AlgorithmConfig:
    """Returns an algorithm's configuration for a small machine, all in one process.

    For games with pictures: credit for some 30 steps, small batches, and gradients cut short.

    Args:
        algorithm: Which.
        num_slots: Environments that it learns from.
        has_pictures: Whether observations are pictures.

    Raises:
        ConfigError: There is no such algorithm.
    """
    kind = "pictures" if has_pictures else "vectors"
    shared: dict[str, Any] = {"gamma": _GAMMA[kind], "grad_clip_by": "global_norm"}
    if algorithm == "ppo":
        fragment = max(32, -(-_LEAST_BATCH[kind] // num_slots))
        return _on_this_machine(
            _made(PPOConfig).training(
                lr=3e-4,
                train_batch_size_per_learner=fragment * num_slots,
                minibatch_size=_PPO_MINIBATCH,
                num_epochs=4,
                lambda_=0.95,
                entropy_coeff=0.01,
                vf_loss_coeff=0.5 if has_pictures else 0.01,
                # A clipped square would be blind to the returns of most games.
                vf_clip_param=1e6,
                clip_param=0.2,
                use_kl_loss=False,
                grad_clip=0.5,
                **shared,
            )
        )
    if algorithm not in ("impala", "appo"):
        raise ConfigError(f"algorithm: expected ppo, impala or appo, got {algorithm!r}")
    fragment = _FRAGMENT
    samples = max(1, -(-_LEAST_ASYNC_BATCH // (fragment * num_slots)))
    config = _made(APPOConfig if algorithm == "appo" else IMPALAConfig)
    config.training(
        lr=5e-4,
        train_batch_size_per_learner=samples * fragment * num_slots,
        entropy_coeff=0.01,
        vf_loss_coeff=0.5,
        grad_clip=1.0 if has_pictures else 40.0,
        **shared,
    )
    config.env_runners(rollout_fragment_length=fragment)
    # Otherwise RLlib keeps at it for ten seconds before it says anything.
    config.reporting(min_time_s_per_iteration=1)
    return _on_this_machine(config)


def _made(kind: Any) -> Any:
    """Returns a configuration; RLlib annotates neither its constructor nor its methods."""
    return kind()


def _on_this_machine(config: AlgorithmConfig) -> AlgorithmConfig:
    config.learners(num_learners=0)
    return config.env_runners(num_env_runners=0)
