"""raygym.make and make_vec in lock-step, on remotes that are real processes."""

from __future__ import annotations

import os
import signal

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import raygym
from raygym.errors import ConfigError
from raygym.remote_env.process_backend import ProcessBackend
from tests.support.process_tree import all_end, descendants

CARTPOLE = "gym-core.CartPole-v1"


@pytest.fixture
def cartpole():
    env = raygym.make(CARTPOLE)
    yield env
    env.close()


def test_any_gymnasium_env_is_played_as_at_home(cartpole) -> None:
    home = gymnasium.make("CartPole-v1")
    ours, theirs = cartpole.reset(seed=3)[0], home.reset(seed=3)[0]
    assert np.array_equal(ours, theirs)
    home.action_space.seed(3)
    for _ in range(200):
        action = home.action_space.sample()
        ours, theirs = cartpole.step(action), home.step(action)
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
        if theirs[2] or theirs[3]:
            ours, theirs = cartpole.reset(seed=4)[0], home.reset(seed=4)[0]
            assert np.array_equal(ours, theirs)
    home.close()


def test_gymnasiums_checks_pass(cartpole) -> None:
    with pytest.warns(UserWarning, match="infinity"):
        check_env(cartpole, skip_render_check=True)


def test_options_of_the_environment_go_to_the_far_end() -> None:
    env = raygym.make(
        "gym-core.FrozenLake-v1", env_kwargs={"map_name": "8x8"}, render_mode="rgb_array"
    )
    try:
        assert env.observation_space == gymnasium.spaces.Discrete(64)
        env.reset(seed=1)
        assert env.render().shape[2] == 3
    finally:
        env.close()


def test_a_killed_remote_cuts_the_episode_and_the_next_reset_has_another() -> None:
    backend = ProcessBackend(arguments=["--mode", "lockstep", "--env", "CartPole-v1"])
    env = raygym.make(CARTPOLE, backend=backend)
    try:
        env.reset(seed=1)
        before = env.step(0)[0]
        pid = backend.pid(env.remote_id)
        processes = descendants(pid)
        os.kill(pid, signal.SIGKILL)
        assert all_end(processes)
        observation, reward, terminated, truncated, info = env.step(0)
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert info["outcome"] == "infra_failure"
        assert np.array_equal(observation, before)
        _, info = env.reset(seed=1)
        assert info["outcome"] == "ok"
        assert (env.remotes_started, env.remotes_lost) == (2, 1)
        assert len(backend.list()) == 1
    finally:
        env.close()
        backend.close()
    assert backend.list() == []


def test_an_id_that_nobody_knows_is_refused_with_what_the_far_end_says() -> None:
    with pytest.raises(ConfigError, match=r"unknown environment gym-core\.NoSuchGame-v0"):
        raygym.make("gym-core.NoSuchGame-v0")


def test_a_vector_of_remotes_equals_the_same_envs_at_home() -> None:
    vector = raygym.make_vec(CARTPOLE, remotes=3)
    home = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    try:
        assert np.array_equal(vector.reset(seed=7)[0], home.reset(seed=7)[0])
        vector.action_space.seed(7)
        for _ in range(30):
            actions = vector.action_space.sample()
            ours, theirs = vector.step(actions), home.step(actions)
            for part, wanted in zip(ours[1:4], theirs[1:4], strict=True):
                assert np.array_equal(part, wanted)
            # Where an episode ended, the next reset has no seed, and both draw on their own.
            if theirs[2].any():
                break
            assert np.array_equal(ours[0], theirs[0])
        assert len(set(vector.step(actions)[4]["remote_id"])) == 3
    finally:
        vector.close()
        home.close()
