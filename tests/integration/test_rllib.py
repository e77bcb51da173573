"""RLlib's algorithms on the rollout service, over one small Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig

from raygym.rllib import RLlibRun, newest_checkpoint, register, rollout_config
from raygym.service.reports import ActorReport
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.slots import Slots
from raygym.vector.stacked_slots import StackedSlots
from tests.support.small_ray import small_ray
from tests.support.tiny_envs import ChoiceEnv, CountingEnv

DEADLINE_S = 90.0
LEAST_LEARNT = 60.0
"""Mean return of CartPole; actions drawn evenly give about 22."""
Metrics = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with small_ray(num_cpus=3):
        yield


def counting(_slot: int) -> gymnasium.Env[Any, Any]:
    return CountingEnv(["ok:5", "env_failure:3", "ok:4"])


def choosing(_slot: int) -> gymnasium.Env[Any, Any]:
    return ChoiceEnv()


def inline(factory: Any, frame_stack: int, _first: int, count: int) -> Slots:
    slots = InlineSlots(factory, count)
    return StackedSlots(slots, frame_stack) if frame_stack > 1 else slots


def ppo(**training: Any) -> AlgorithmConfig:
    config = PPOConfig().training(
        **{
            "train_batch_size_per_learner": 512,
            "minibatch_size": 128,
            "num_epochs": 6,
            "lr": 1e-3,
            "vf_loss_coeff": 0.01,
            **training,
        }
    )
    return config.debugging(seed=1, log_level="ERROR")


def small_ppo() -> AlgorithmConfig:
    return ppo(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)


def off_policy(config: AlgorithmConfig) -> AlgorithmConfig:
    config.training(train_batch_size_per_learner=64)
    config.env_runners(rollout_fragment_length=16).learners(num_learners=0)
    return config.reporting(min_time_s_per_iteration=0).debugging(seed=1, log_level="ERROR")


@pytest.fixture
def build() -> Iterator[Any]:
    algorithms: list[Algorithm] = []

    def building(config: AlgorithmConfig) -> Algorithm:
        algorithms.append(config.build_algo())
        return algorithms[-1]

    yield building
    for algorithm in algorithms:
        algorithm.stop()


def train(algorithm: Algorithm, iterations: int = 2) -> Metrics:
    for _ in range(iterations):
        result: Metrics = algorithm.train()
    return result


def losses(result: Metrics) -> float:
    return float(result["learners"]["default_policy"]["total_loss"])


def test_ppo_learns_cartpole_a_bit(build: Any) -> None:
    algorithm = build(rollout_config(ppo(), "CartPole-v1", num_slots=8))

    best = 0.0
    deadline_s = time.monotonic() + DEADLINE_S
    while best < LEAST_LEARNT and time.monotonic() < deadline_s:
        best = max(best, algorithm.train()["env_runners"].get("episode_return_mean", 0.0))

    assert best >= LEAST_LEARNT


@pytest.mark.parametrize("kind", [IMPALAConfig, APPOConfig])
@pytest.mark.parametrize("use_lstm", [False, True])
def test_algorithms_off_the_policy_learn_from_rollouts(
    build: Any, kind: type[AlgorithmConfig], *, use_lstm: bool
) -> None:
    config = off_policy(kind())
    algorithm = build(
        rollout_config(
            config, "CartPole-v1", num_slots=4, use_lstm=use_lstm, lstm_cell_size=8, max_seq_len=8
        )
    )

    before = algorithm.env_runner.module.get_state()
    deadline_s = time.monotonic() + DEADLINE_S
    has_moved = False
    while not has_moved and time.monotonic() < deadline_s:
        result = algorithm.train()
        after = algorithm.env_runner.module.get_state()
        has_moved = any(not np.array_equal(before[name], after[name]) for name in before)

    assert has_moved
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] >= 64


def test_ppo_remembers_with_an_lstm(build: Any) -> None:
    config = rollout_config(
        small_ppo(), "CartPole-v1", num_slots=4, use_lstm=True, lstm_cell_size=8, max_seq_len=8
    )

    assert np.isfinite(losses(train(build(config))))


def test_stacks_of_pictures_are_learned_from(build: Any) -> None:
    config = rollout_config(small_ppo(), partial(inline, choosing, 4), num_slots=2)

    algorithm = build(config)

    assert algorithm.config.observation_space.shape == (12, 12, 4)
    assert np.isfinite(losses(train(algorithm)))


def test_remote_runners_have_services_of_their_own(build: Any) -> None:
    config = rollout_config(
        small_ppo(),
        "CartPole-v1",
        num_slots=2,
        num_env_runners=2,
        actor_options={"num_cpus": 0.1},
    )
    config.env_runners(num_cpus_per_env_runner=0.5)

    result = train(build(config), 1)

    assert result["env_runners"]["num_env_steps_sampled"] >= 64


def test_a_policy_is_evaluated_on_slots_of_its_own(build: Any) -> None:
    config = rollout_config(small_ppo(), "CartPole-v1", num_slots=2)
    config.evaluation(
        evaluation_interval=1, evaluation_duration=2, evaluation_config={"explore": False}
    )

    result = train(build(config), 1)

    assert result["evaluation"]["env_runners"]["num_episodes"] >= 2


def test_an_algorithm_goes_on_where_it_was_saved(build: Any, tmp_path: Path) -> None:
    def made() -> AlgorithmConfig:
        return rollout_config(small_ppo(), "CartPole-v1", num_slots=2)

    first = build(made())
    train(first)
    path = first.save_to_path(str(tmp_path / "saved"))
    second = build(made())
    second.restore_from_path(path)

    old, new = first.env_runner.module.get_state(), second.env_runner.module.get_state()
    assert all(np.array_equal(old[name], new[name]) for name in old)
    assert second.iteration == 2
    assert np.isfinite(losses(train(second, 1)))


def test_failed_episodes_are_counted_and_their_last_steps_are_not_learned_from(
    build: Any,
) -> None:
    config = rollout_config(small_ppo(), partial(inline, counting, 1), num_slots=2)
    algorithm = build(config)

    result = train(algorithm, 1)

    assert result["env_runners"]["raygym_episodes"]["env_failure"] > 0
    assert result["env_runners"]["raygym_steps_masked"] > 0
    # Of those that ended as they should: five steps, or four, one reward each.
    assert result["env_runners"]["episode_return_min"] >= 4
    assert result["env_runners"]["episode_return_max"] == 5


def test_rllibs_own_runners_take_a_registered_vector_environment(build: Any) -> None:
    name = register("CartPole-v1")
    config = small_ppo().environment(name)
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=4, gym_env_vectorize_mode="vector_entry_point"
    )

    assert train(build(config), 1)["env_runners"]["num_env_steps_sampled"] >= 64


@pytest.fixture
def start() -> Iterator[Any]:
    runs: list[RLlibRun] = []

    def starting(*args: Any, **kwargs: Any) -> RLlibRun:
        runs.append(RLlibRun(*args, **kwargs))
        return runs[-1]

    yield starting
    for run in runs:
        run.close()


def reports(run: RLlibRun, *, until: Any) -> list[ActorReport]:
    """Polls until what came so far is enough."""
    got: list[ActorReport] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while not until(got):
        assert time.monotonic() < deadline_s, "the run gave too few reports"
        got += [one for one in run.poll(timeout_s=0.25) if isinstance(one, ActorReport)]
    return got


def has_learned(got: list[ActorReport]) -> bool:
    return any(report.has_gradient for report in got)


@pytest.mark.parametrize("algo", ["ppo", "impala", "appo"])
def test_a_run_reports_steps_episodes_and_what_it_learned(start: Any, algo: Any) -> None:
    run = start(algo, partial(inline, counting, 1), num_slots=2, seed=4)

    got = reports(run, until=has_learned)

    learned = next(report for report in got if report.has_gradient)
    assert {"policy_loss", "value_loss", "entropy"} <= learned.statistics.keys()
    assert sum(report.sampler.steps for report in got) > 0
    outcomes = {str(e.outcome) for report in got for e in report.sampler.episodes}
    assert outcomes == {"ok", "env_failure"}
    assert {report.sampler.slot for report in got} == {0, 1}


def test_a_run_is_saved_while_it_goes_on_and_goes_on_from_there(start: Any, tmp_path: Path) -> None:
    run = start("ppo", "CartPole-v1", num_slots=2)
    reports(run, until=has_learned)

    path = run.save(tmp_path / "checkpoints")
    left = list(run.drain(timeout_s=DEADLINE_S))
    last = run.save(tmp_path / "checkpoints", keep=1)
    run.close()
    again = start("ppo", "CartPole-v1", num_slots=2, restore=last)

    assert not path.exists() or path == last
    assert newest_checkpoint(tmp_path / "checkpoints") == last
    assert all(isinstance(report, ActorReport) for report in left)
    reports(again, until=has_learned)


def test_a_run_of_an_environment_that_does_not_exist_says_so(start: Any) -> None:
    from raygym.errors import ConfigError

    with pytest.raises(ConfigError, match="NoSuchGame"):
        start("ppo", "NoSuchGame-v7", num_slots=1)
