"""raygym.make and make_vec in lock-step, on remotes that are real processes."""

from __future__ import annotations

import os
import signal

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import raygym
from raygym.config import ObservationConfig
from raygym.errors import ConfigError
from raygym.remote_env.process_backend import ProcessBackend
from raygym.vector.batch_slots import BatchSlots
from raygym.vector.thread_slots import ThreadSlots
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


PONG = "gym-core.PongDeterministic-v3"
SMALL = ObservationConfig(height_px=40, width_px=40, is_grey=True, crop=(0, 34, 160, 160))


def same_steps(ours: gymnasium.vector.VectorEnv, theirs: gymnasium.vector.VectorEnv) -> int:
    """Steps both alike until an episode ends; returns how many steps were the same."""
    assert np.array_equal(ours.reset(seed=7)[0], theirs.reset(seed=7)[0])
    ours.action_space.seed(7)
    for count in range(60):
        actions = ours.action_space.sample()
        mine, wanted = ours.step(actions), theirs.step(actions)
        for part, expected in zip(mine[:4], wanted[:4], strict=True):
            assert np.array_equal(part, expected)
        # Where an episode ended, the next reset has no seed, and both draw on their own.
        if wanted[2].any():
            return count
    return 60


def test_many_envs_of_one_remote_equal_the_same_envs_at_home() -> None:
    vector = raygym.make_vec(CARTPOLE, 3)
    home = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    try:
        assert isinstance(vector.slots, BatchSlots)
        assert same_steps(vector, home) > 5
        assert vector.remotes_started == 1
    finally:
        vector.close()
        home.close()


def test_pong_shows_the_same_bytes_with_and_without_a_remote() -> None:
    remote = raygym.make_vec(PONG, 2, observation=SMALL, frame_stack=2)
    local = raygym.make_vec(
        PONG, 2, observation=SMALL, frame_stack=2, backend="local", vectorization="inline"
    )
    try:
        assert remote.observation_space == local.observation_space
        assert same_steps(remote, local) == 60
    finally:
        remote.close()
        local.close()


def test_a_lost_remote_of_many_envs_cuts_all_and_the_next_step_has_another() -> None:
    backend = ProcessBackend(arguments=["--mode", "lockstep", "--env", "CartPole-v1"])
    vector = raygym.make_vec(CARTPOLE, 3, backend=backend)
    try:
        vector.reset(seed=1)
        before = vector.step(np.zeros(3, np.int64))[0]
        processes = descendants(backend.pid(vector.remote_ids[0]))
        os.kill(backend.pid(vector.remote_ids[0]), signal.SIGKILL)
        assert all_end(processes)
        observations, rewards, _, truncated, infos = vector.step(np.zeros(3, np.int64))
        assert np.array_equal(observations, before)
        assert (rewards.tolist(), truncated.tolist()) == ([0.0] * 3, [True] * 3)
        assert infos["outcome"].tolist() == ["infra_failure"] * 3
        assert vector.step(np.zeros(3, np.int64))[4]["outcome"].tolist() == ["ok"] * 3
        assert (vector.remotes_started, vector.remotes_lost) == (2, 1)
    finally:
        vector.close()
        backend.close()


def test_a_killed_remote_of_its_own_cuts_one_slot_and_others_go_on() -> None:
    backend = ProcessBackend(arguments=["--mode", "lockstep", "--env", "CartPole-v1"])
    vector = raygym.make_vec(CARTPOLE, remotes=2, backend=backend)
    try:
        assert isinstance(vector.slots, ThreadSlots)
        vector.reset(seed=1)
        os.kill(backend.pid(vector.remote_ids[1]), signal.SIGKILL)
        # Its processes end one after another; the last of them may answer meanwhile.
        steps = (vector.step(np.zeros(2, np.int64))[4]["outcome"].tolist() for _ in range(1000))
        assert next(outcome for outcome in steps if outcome != ["ok", "ok"]) == [
            "ok",
            "infra_failure",
        ]
        assert next(steps) == ["ok", "ok"]
        assert vector.reports()[1].cuts == {"infra_failure": 1}
    finally:
        vector.close()
        backend.close()


def test_envs_without_a_remote_run_in_processes_of_ours() -> None:
    vector = raygym.make_vec("CartPole-v1", 3, num_processes=2)
    home = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    try:
        assert same_steps(vector, home) > 5
        assert vector.remotes_started == 0
    finally:
        vector.close()
        home.close()


def test_processes_of_ours_may_each_have_a_remote() -> None:
    vector = raygym.make_vec(CARTPOLE, 2, vectorization="processes")
    try:
        vector.reset(seed=1)
        assert len(set(vector.step(np.zeros(2, np.int64))[4]["remote_id"])) == 2
    finally:
        vector.close()
