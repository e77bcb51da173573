"""PPO on CartPole: env-steps/s through the rollout service, beside RLlib's own EnvRunners.

python benchmarks/rllib.py [--seconds 10] [--rounds 3]

The same algorithm with the same settings on the same machine; both take turns in one run, so
that what else the machine does meets both alike. What counts is the ratio: a whole iteration
(sampling, learning, new weights), and the sampling alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPOConfig

from raygym.rllib import rollout_config

NAME = "rllib"
ENV = "CartPole-v1"
SLOTS = 8
AT_LEAST = 1.0
STEPS = "num_env_steps_sampled_lifetime"


def config() -> Any:
    """Returns PPO with RLlib's own settings for CartPole, in small batches."""
    return (
        PPOConfig()
        .training(
            lr=3e-4,
            train_batch_size_per_learner=2048,
            minibatch_size=256,
            num_epochs=6,
            vf_loss_coeff=0.01,
        )
        .debugging(log_level="ERROR")
        .learners(num_learners=0)
    )


def through_the_service() -> Any:
    """Returns the algorithm on rollouts of the service."""
    return rollout_config(config(), ENV, num_slots=SLOTS).build_algo()


def on_rllibs_own() -> Any:
    """Returns the algorithm on RLlib's SingleAgentEnvRunner, in the driver, as its default is."""
    made = config().environment(ENV)
    return made.env_runners(num_env_runners=0, num_envs_per_env_runner=SLOTS).build_algo()


def on_rllibs_remote() -> Any:
    """Returns the algorithm on one remote EnvRunner of RLlib's."""
    made = config().environment(ENV)
    return made.env_runners(num_env_runners=1, num_envs_per_env_runner=SLOTS).build_algo()


def measure(algorithm: Any, seconds: float) -> tuple[float, float]:
    """Trains for about so long.

    Returns:
        Env-steps/s of whole iterations, and of their sampling alone.
    """
    steps = sampling_s = 0.0
    began_s = time.perf_counter()
    before = algorithm.metrics.peek(("env_runners", STEPS), default=0)
    while time.perf_counter() - began_s < seconds:
        result = algorithm.train()
        # RLlib smooths its timers; so many rounds even that out.
        sampling_s += result["timers"]["env_runner_sampling_timer"]
        steps = result["env_runners"][STEPS] - before
    return steps / (time.perf_counter() - began_s), steps / sampling_s


def main() -> int:
    """Prints the table; returns 1 if the service is slower than RLlib's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=3,
        object_store_memory=150 * 2**20,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )
    builders = {
        "the service": through_the_service,
        "RLlib, in the driver": on_rllibs_own,
        "RLlib, one remote runner": on_rllibs_remote,
    }
    algorithms = {name: build() for name, build in builders.items()}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in algorithms}
    try:
        for algorithm in algorithms.values():
            algorithm.train()
        for _ in range(options.rounds):
            for name, algorithm in algorithms.items():
                rates[name].append(measure(algorithm, options.seconds))
    finally:
        for algorithm in algorithms.values():
            algorithm.stop()
        ray.shutdown()
    return report(rates)


def report(rates: dict[str, list[tuple[float, float]]]) -> int:
    """Prints the medians and the ratios."""
    median = {
        name: tuple(statistics.median(round_[part] for round_ in rounds) for part in (0, 1))
        for name, rounds in rates.items()
    }
    own = median["the service"]
    print(f"| PPO on {ENV}, {SLOTS} slots | env-steps/s | sampling alone | service / this |")
    print("|---|---|---|---|")
    for name, (whole, sampling) in median.items():
        ratio = f"{own[0] / whole:.2f} (sampling {own[1] / sampling:.2f})"
        print(f"| {name} | {whole:,.0f} | {sampling:,.0f} | {ratio} |")
    best = max(whole for name, (whole, _) in median.items() if name != "the service")
    print(f"\nservice / the faster of RLlib's own: {own[0] / best:.2f}; at least {AT_LEAST}")
    return 0 if own[0] / best >= AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
