"""Environments in Ray actors as one vector environment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.service.ray_vector_env import START_ATTEMPTS, RayVectorEnv
from tests.support.restartable_ray import restartable_ray
from tests.support.tiny_envs import CountingEnv


class TroubledEnv(CountingEnv):
    """Does to its own process what its action says; reports the process in its infos."""

    def __init__(self) -> None:
        super().__init__(["ok:1000"])
        self.action_space = gymnasium.spaces.Discrete(4)

    def step(self, action: int) -> Any:
        if action == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 2:
            time.sleep(3600)
        if action == 3:
            raise ValueError("the game fell over")
        *row, info = super().step(action)
        return *row, info | {"pid": os.getpid()}


def troubled(slot: int) -> gymnasium.Env[Any, Any]:
    return TroubledEnv()


def counting(slot: int) -> gymnasium.Env[Any, Any]:
    return CountingEnv([f"ok:{slot + 2}"])


def cart_pole(slot: int) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


def impossible(slot: int) -> gymnasium.Env[Any, Any]:
    raise ConfigError("no such level")


class NeverReadyEnv(CountingEnv):
    """Cannot be reset."""

    def __init__(self) -> None:
        super().__init__(refused_resets=10**9)


def never_ready(slot: int) -> gymnasium.Env[Any, Any]:
    return NeverReadyEnv()


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with restartable_ray(8):
        yield


@pytest.mark.parametrize("envs_per_actor", [1, 2])
def test_it_plays_as_gymnasiums_own_vector_env_does(envs_per_actor):
    ours = RayVectorEnv(cart_pole, 3, envs_per_actor=envs_per_actor)
    theirs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    rng = np.random.default_rng(1)
    try:
        assert ours.single_observation_space == theirs.single_observation_space
        assert ours.action_space == theirs.action_space
        assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        np.testing.assert_array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
        ends = 0
        for _ in range(60):
            actions = rng.integers(2, size=3)
            expected = theirs.step(actions)
            for one, other in zip(ours.step(actions)[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
            ends += np.count_nonzero(expected[2])
        assert ends
    finally:
        ours.close()
        theirs.close()


def test_an_environment_id_goes_to_make_in_each_actor():
    envs = RayVectorEnv("CartPole-v1", 2, make_kwargs={"client_id": "by-id"})
    try:
        observations, infos = envs.reset(seed=3)
        assert observations.shape == (2, 4)
        assert infos["outcome"].tolist() == ["ok", "ok"]
    finally:
        envs.close()


def test_each_slot_is_reset_by_the_step_after_its_end():
    envs = RayVectorEnv(counting, 2)
    try:
        envs.reset()
        seen = [envs.step(np.zeros(2, int)) for _ in range(4)]
    finally:
        envs.close()
    assert [step[2].tolist() for step in seen] == [
        [False, False],
        [True, False],
        [False, True],
        [False, False],
    ]
    assert [step[1].tolist() for step in seen] == [[1, 1], [1, 1], [0, 1], [1, 0]]
    assert all(step[4]["outcome"].tolist() == ["ok", "ok"] for step in seen)


@pytest.mark.parametrize(
    ("trouble", "outcome", "reason"),
    [
        (1, "infra_failure", "died"),
        (2, "timeout", "in time"),
        (3, "env_failure", "ValueError: the game fell over"),
    ],
)
def test_a_slot_whose_actor_fails_is_cut_and_gets_a_new_one(trouble, outcome, reason):
    timeouts = {"step_timeout_s": 6.0} if outcome == "timeout" else {}
    envs = RayVectorEnv(troubled, 2, **timeouts)
    try:
        envs.reset(seed=1)
        before, *_, infos = envs.step(np.array([0, 0]))
        pids = infos["pid"]
        after, rewards, terminated, truncated, infos = envs.step(np.array([0, trouble]))
        assert truncated.tolist() == [False, True]
        assert not terminated.any()
        assert rewards.tolist() == [1.0, 0.0]
        assert infos["outcome"].tolist() == ["ok", outcome]
        assert reason in infos["reason"][1]
        np.testing.assert_array_equal(after[1], before[1])
        first, rewards, _, truncated, infos = envs.step(np.array([0, 1]))
        assert not truncated.any()
        assert rewards.tolist() == [1.0, 0.0]
        assert not first[1].any()
        *_, infos = envs.step(np.array([0, 0]))
        assert infos["pid"][0] == pids[0]
        assert infos["pid"][1] != pids[1]
        assert envs.actors_lost == 1
    finally:
        envs.close()


def test_environments_of_one_actor_fail_together():
    envs = RayVectorEnv(troubled, 3, envs_per_actor=2)
    try:
        envs.reset()
        *_, truncated, infos = envs.step(np.array([1, 0, 0]))
        assert truncated.tolist() == [True, True, False]
        assert infos["outcome"].tolist() == ["infra_failure", "infra_failure", "ok"]
    finally:
        envs.close()


def test_what_cannot_be_made_at_all_says_so_as_itself():
    with pytest.raises(ConfigError, match="no such level"):
        RayVectorEnv(impossible, 2)


def test_an_environment_that_never_gets_ready_ends_the_run():
    envs = RayVectorEnv(never_ready, 1)
    try:
        with pytest.raises(RemoteFailedToStart, match=f"failed {START_ATTEMPTS} times in a row"):
            envs.reset()
    finally:
        envs.close()


@pytest.mark.parametrize("counts", [{"num_envs": 0}, {"num_envs": 1, "envs_per_actor": 0}])
def test_a_count_below_one_is_refused(counts):
    with pytest.raises(ConfigError, match="expected 1 or more, got 0"):
        RayVectorEnv(cart_pole, **counts)


def test_no_step_is_taken_before_a_reset():
    envs = RayVectorEnv(cart_pole, 1)
    try:
        with pytest.raises(ConfigError, match="before it"):
            envs.step(np.zeros(1, int))
        with pytest.raises(ConfigError, match="expected 1 seeds, got 2"):
            envs.reset(seed=[1, 2])
    finally:
        envs.close()


def test_its_actors_end_with_it():
    envs = RayVectorEnv(troubled, 2)
    envs.reset()
    pids = envs.step(np.zeros(2, int))[4]["pid"].tolist()
    envs.close()
    deadline_s = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline_s, "an actor outlives its vector environment"
        time.sleep(0.05)
    assert ray.is_initialized()
