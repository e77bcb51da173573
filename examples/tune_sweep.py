"""Ray Tune compares two learning rates of PPO on rollouts of the service, one trial at a time.

python examples/tune_sweep.py [steps of a trial]
"""

from __future__ import annotations

import sys
import tempfile

import ray
from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig

from raygym.rllib import rollout_config


def main() -> None:
    """Runs the sweep and prints what each learning rate came to."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    # A trial's own process needs a core; the actors of its service take a little more.
    ray.init(address="local", num_cpus=3, object_store_memory=150 * 2**20, log_to_driver=False)
    config = PPOConfig().training(
        lr=tune.grid_search([1e-4, 1e-3]),
        train_batch_size_per_learner=1024,
        minibatch_size=128,
        num_epochs=6,
        vf_loss_coeff=0.01,
    )
    rollout_config(config, "CartPole-v1", num_slots=8).learners(num_learners=0)
    with tempfile.TemporaryDirectory() as directory:
        tuner = tune.Tuner(
            "PPO",
            param_space=config,
            tune_config=tune.TuneConfig(max_concurrent_trials=1),
            run_config=tune.RunConfig(
                storage_path=directory,
                stop={"num_env_steps_sampled_lifetime": steps},
                verbose=0,
            ),
        )
        results = tuner.fit()
        for result in results:
            sampled = result.metrics["env_runners"]
            print(f"lr {result.config['lr']:g}: {sampled.get('episode_return_mean'):.1f}")
        best = results.get_best_result("env_runners/episode_return_mean", "max")
        print(f"best: lr {best.config['lr']:g}")
    ray.shutdown()


if __name__ == "__main__":
    main()
