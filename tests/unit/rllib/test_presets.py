from __future__ import annotations

from typing import Any

import pytest
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig

from raygym.errors import ConfigError
from raygym.rllib.presets import preset


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("ppo", PPOConfig), ("impala", IMPALAConfig), ("appo", APPOConfig)]
)
@pytest.mark.parametrize("num_slots", [1, 2, 16, 100])
def test_presets_suit_any_number_of_slots(algorithm: Any, kind: type, num_slots: int) -> None:
    config = preset(algorithm, num_slots=num_slots, has_pictures=True)
    config.env_runners(num_envs_per_env_runner=num_slots)

    fragment = config.get_rollout_fragment_length()
    batch = config.train_batch_size_per_learner
    assert type(config) is kind
    assert batch % (fragment * num_slots) == 0
    assert 256 <= batch <= max(2 * 512, 64 * num_slots)
    assert 32 <= fragment <= 512


def test_pictures_get_credit_for_fewer_steps() -> None:
    gammas = [preset("ppo", num_slots=2, has_pictures=has).gamma for has in (True, False)]

    assert gammas == [0.97, 0.99]


def test_everything_stays_in_one_process() -> None:
    config = preset("impala", num_slots=2, has_pictures=True)

    assert config.num_env_runners == 0
    assert config.num_learners == 0


def test_another_algorithm_is_refused() -> None:
    with pytest.raises(ConfigError, match="dqn"):
        preset("dqn", num_slots=2, has_pictures=True)  # type: ignore[arg-type]
