from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from raygym.errors import ConfigError
from raygym.service.ray_vector_env import EnvGroup, RayVectorEnv
from tests.support.tiny_envs import CountingEnv


class Made:
    """A factory that remembers what it made."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.envs: list[CountingEnv] = []

    def __call__(self, slot: int) -> gymnasium.Env[Any, Any]:
        self.slots.append(slot)
        self.envs.append(CountingEnv([f"ok:{slot}"]))
        return self.envs[-1]


def test_environments_are_made_once_and_only_when_they_are_needed():
    made = Made()
    group = EnvGroup(made, [2, 3])
    assert made.slots == []
    group.describe()
    group.reset([7, 8], None)
    assert made.slots == [2, 3]
    assert [env.seeds for env in made.envs] == [[7], [8]]


def test_the_spaces_and_metadata_are_those_of_the_environment():
    observation_space, action_space, metadata = EnvGroup(Made(), [2]).describe()
    assert observation_space == CountingEnv().observation_space
    assert action_space == CountingEnv().action_space
    assert metadata == CountingEnv.metadata


def test_the_step_after_an_end_resets_that_environment_alone():
    made = Made()
    group = EnvGroup(made, [2, 3])
    group.reset([1, 2], None)
    steps = [group.step([0, 0]) for _ in range(4)]
    assert [[row[2] for row in rows] for rows in steps] == [
        [False, False],
        [True, False],
        [False, True],
        [False, False],
    ]
    assert [[row[1] for row in rows] for rows in steps] == [[1, 1], [1, 1], [0, 1], [1, 0]]
    assert [env.seeds for env in made.envs] == [[1, None], [2, None]]


def test_a_reset_begins_anew_in_the_middle_of_an_episode():
    made = Made()
    group = EnvGroup(made, [2])
    group.reset([None], None)
    group.step([0])
    group.reset([None], None)
    assert [group.step([0])[0][2] for _ in range(2)] == [False, True]


def test_closing_twice_closes_each_environment_once():
    made = Made()
    group = EnvGroup(made, [2, 3])
    group.describe()
    group.close()
    group.close()
    assert [env.is_closed for env in made.envs] == [True, True]


def test_without_ray_it_says_what_to_call():
    with pytest.raises(ConfigError, match=r"call ray\.init\(\) first"):
        RayVectorEnv(Made(), 2)
