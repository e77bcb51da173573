"""PPO of RLlib learns CartPole from rollouts of the service; ends by itself within a minute.

    python examples/rllib_rollouts.py [env id] [seconds]

Any environment of Gymnasium or of the catalog will do: ``flashgames.NeonRace-v0`` with
``make_kwargs={"observation": ObservationConfig(height_px=72, width_px=96, is_grey=True)}`` and
``frame_stack=4``.
"""

from __future__ import annotations

import sys
import time

import ray
from ray.rllib.algorithms.ppo import PPOConfig

from raygym.rllib import rollout_config


def main() -> None:
    """Trains for so many seconds and prints how it goes."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "CartPole-v1"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    ray.init(address="local", num_cpus=2, object_store_memory=150 * 2**20, log_to_driver=False)
    config = PPOConfig().training(
        lr=1e-3,
        train_batch_size_per_learner=1024,
        minibatch_size=128,
        num_epochs=6,
        vf_loss_coeff=0.01,
    )
    algorithm = rollout_config(config, env_id, num_slots=8).build_algo()
    until_s = time.monotonic() + seconds
    try:
        while time.monotonic() < until_s:
            sampled = algorithm.train()["env_runners"]
            print(
                f"{sampled['num_env_steps_sampled_lifetime']:7.0f} steps, "
                f"mean return {sampled.get('episode_return_mean', float('nan')):6.1f}",
                flush=True,
            )
    finally:
        algorithm.stop()
        ray.shutdown()


if __name__ == "__main__":
    main()
