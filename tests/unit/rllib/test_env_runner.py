from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from raygym.errors import ConfigError
from raygym.rllib.config import rollout_config
from raygym.rllib.env_runner import NoRollouts, ServiceEnvRunner
from raygym.rllib.settings import KEY, ServiceSettings
from raygym.vector.slots import Slots
from tests.support.fake_service import InlineService
from tests.support.fake_slots import FakeSlots

OBSERVATIONS = gymnasium.spaces.Box(0, 1e6, (3,), np.float32)
ACTIONS = gymnasium.spaces.Discrete(4)


def slots(_first: int, count: int) -> Slots:
    """Episodes of five steps; the third of each slot fails in its third step."""

    def info(_slot: int, episode: int, step: int) -> dict[str, str]:
        return {"outcome": "env_failure", "reason": "planted"} if (episode, step) == (2, 3) else {}

    return FakeSlots(count, info=info)


def config(algorithm: AlgorithmConfig | None = None, **more: Any) -> AlgorithmConfig:
    made = rollout_config(
        algorithm or PPOConfig(),
        slots,
        num_slots=2,
        observation_space=OBSERVATIONS,
        action_space=ACTIONS,
        **more,
    )
    return made.training(train_batch_size_per_learner=16).debugging(seed=3)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(ServiceEnvRunner, "make_service", staticmethod(InlineService))
    runners = []

    def making(made: AlgorithmConfig, **kwargs: Any) -> ServiceEnvRunner:
        runners.append(ServiceEnvRunner(config=made, **{"worker_index": 0, **kwargs}))
        return runners[-1]

    yield making
    for runner in runners:
        runner.stop()


def steps(episodes: list[SingleAgentEpisode]) -> int:
    return sum(len(episode) for episode in episodes)


def test_a_sample_has_the_steps_of_a_fragment_for_each_slot(make: Any) -> None:
    runner = make(config())

    assert steps(runner.sample()) == 16
    assert runner.get_metrics()["num_env_steps_sampled"].reduce() == 16


def test_failed_steps_do_not_count_and_are_made_up_for(make: Any) -> None:
    runner = make(config())
    runner.sample()

    assert steps(runner.sample()) >= 16
    metrics = runner.get_metrics()
    assert metrics["raygym_steps_masked"].reduce() == 2
    assert metrics["raygym_episodes"]["env_failure"].reduce() == 2


def test_returns_are_of_whole_episodes_only_and_not_scaled(make: Any) -> None:
    runner = make(config(reward_scale=0.1))

    episodes = [e for _ in range(3) for e in runner.sample()]

    assert runner.get_metrics()["episode_return_mean"].reduce() == 1 + 2 + 3 + 4 + 5
    assert episodes[0].get_rewards().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_sample_may_be_asked_for_by_episodes(make: Any) -> None:
    runner = make(config())

    episodes = runner.sample(num_episodes=3, explore=False)

    assert sum(episode.is_done for episode in episodes) >= 3
    assert not runner._service.weights[-1].is_exploring


def test_the_service_is_asked_for_what_the_configuration_says(make: Any) -> None:
    runner = make(config(frame_stack=1, slots_per_actor=2))
    others = runner._service.others

    assert others["prefetch"] == 0
    assert others["slots_per_actor"] == 2
    assert make(config(IMPALAConfig()))._service.others["prefetch"] == 1


def test_a_fragment_is_cut_into_equal_rollouts(make: Any) -> None:
    runner = make(config().training(train_batch_size_per_learner=400))

    assert runner.rollout_steps() == 50


def test_new_weights_go_to_the_policies_and_older_ones_do_not(make: Any) -> None:
    runner = make(config())
    state = {name: part + 1 for name, part in runner.module.get_state().items()}

    runner.set_state({COMPONENT_RL_MODULE: state, WEIGHTS_SEQ_NO: 4})
    runner.set_state({COMPONENT_RL_MODULE: runner.module.get_state(), WEIGHTS_SEQ_NO: 3})

    told = runner._service.weights
    assert [one.number for one in told] == [0, 4]
    assert all(np.array_equal(told[1].state[name], part) for name, part in state.items())
    (episode, *_) = runner.sample()
    assert set(episode.get_extra_model_outputs(WEIGHTS_SEQ_NO).tolist()) == {4}


def test_a_state_goes_round(make: Any) -> None:
    one, other = make(config()), make(config())
    one.set_state({COMPONENT_RL_MODULE: one.module.get_state(), WEIGHTS_SEQ_NO: 9})

    other.set_state(one.get_state())

    assert other.get_state()[WEIGHTS_SEQ_NO] == 9
    assert COMPONENT_RL_MODULE not in one.get_state(not_components=COMPONENT_RL_MODULE)


def test_who_samples_hears_what_the_actors_say_and_may_end_the_wait(make: Any) -> None:
    runner = make(config())
    heard: list[Any] = []
    runner.on_report = heard.append
    runner.sample()
    assert sum(report.sampler.steps for report in heard) >= 16

    def stop() -> None:
        raise KeyError("stop")

    runner.on_wait = stop
    with pytest.raises(KeyError):
        runner.sample()


def test_a_service_without_rollouts_is_an_error_in_the_end(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make(config(patience_s=0.1))
    monkeypatch.setattr(runner._service, "next_rollout", lambda *, timeout_s: None)

    with pytest.raises(NoRollouts, match=r"0\.1 s"):
        runner.sample()


def test_the_drivers_runner_beside_remote_ones_has_no_environments(make: Any) -> None:
    made = config(num_env_runners=2)

    runner = make(made)
    assert runner._service is None
    with pytest.raises(ConfigError, match="no environments"):
        runner.sample()
    assert make(made, worker_index=1).num_envs == 1


def test_slots_are_shared_out_among_runners_to_the_last() -> None:
    settings = ServiceSettings(env="CartPole-v1", num_slots=8)

    assert [settings.share(index, 3) for index in (1, 2, 3)] == [3, 3, 2]
    assert settings.share(0, 0) == 8


def test_stopping_closes_the_service_and_may_be_done_twice(make: Any) -> None:
    runner = make(config())
    service = runner._service

    runner.stop()
    runner.stop()

    assert service.is_closed


def test_connectors_that_nobody_would_call_are_refused(make: Any) -> None:
    made = config().env_runners(env_to_module_connector=lambda *_: FlattenObservations())

    with pytest.raises(ConfigError, match="env_to_module_connector"):
        make(made)


def test_a_configuration_of_other_making_is_refused(make: Any) -> None:
    made = config()
    made.env_config = {KEY: None}

    with pytest.raises(ConfigError, match="rollout_config"):
        make(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_slots": 0},
        {"num_slots": 2, "num_env_runners": 3},
        {"num_slots": 2, "prefetch": -1},
        {"num_slots": 2, "frame_stack": 0},
        {"num_slots": 2, "rollout_steps": 0},
        {"num_slots": 2, "action_space": None},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        rollout_config(
            PPOConfig(),
            slots,
            **{"observation_space": OBSERVATIONS, "action_space": ACTIONS, **wrong},
        )
