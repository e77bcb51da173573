"""Remotes in lock-step as a vector environment: threads over LockstepEnv."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from raygym.errors import ConfigError
from raygym.remote_env.lockstep_env import LockstepConfig, LockstepEnv
from raygym.remote_env.lockstep_remote import LockstepRemote
from raygym.remote_env.rpc.session import MakeOptions
from raygym.vector.thread_slots import ThreadSlots
from raygym.vector.vector_env import SlotVectorEnv
from tests.support.in_hand import InHandBackend, InHandConnect
from tests.support.lockstep import Trouble


def single(backend: InHandBackend, make: Any = Trouble, **kwargs: Any) -> LockstepEnv:
    connect = InHandConnect(lambda _id, given: make(**given))
    remote = LockstepRemote(backend, "test", client_id="me", connect=connect, start_timeout_s=5)
    options = MakeOptions(
        env_kwargs={"render_mode": "rgb_array", **kwargs}, render_mode="rgb_array"
    )
    config = LockstepConfig(name="test.Trouble-v0", options=options)
    return LockstepEnv(remote, config, spaces=(Trouble.observation_space, Trouble.action_space))


def of_three(backend: InHandBackend, **kwargs: Any) -> SlotVectorEnv:
    slots = ThreadSlots(lambda i: single(backend, length=i + 2), 3)
    return SlotVectorEnv(slots, render_mode="rgb_array", **kwargs)


@pytest.fixture
def vector():
    backend = InHandBackend()
    made = of_three(backend)
    yield made
    made.close()
    assert sorted(backend.removed + backend.released) == sorted(backend.started)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_it_steps_as_gymnasiums_own_vector_env_does(mode) -> None:
    vector = of_three(InHandBackend(), autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda i=i: single(InHandBackend(), length=i + 2) for i in range(3)],
        autoreset_mode=mode,
    )
    assert vector.observation_space == theirs.observation_space
    assert vector.action_space == theirs.action_space
    ours, expected = vector.reset(seed=5), theirs.reset(seed=5)
    assert data_equivalence(ours[0], expected[0])
    for _ in range(7):
        actions = np.zeros(3, np.int64)
        ours, expected = vector.step(actions), theirs.step(actions)
        for part, wanted in zip(ours[:4], expected[:4], strict=True):
            assert data_equivalence(part, wanted)
        assert set(ours[4]) == set(expected[4])
        assert ours[4]["episode_score"].tolist() == expected[4]["episode_score"].tolist()
    vector.close()
    theirs.close()


def test_all_remotes_are_asked_at_once() -> None:
    together = threading.Barrier(3, timeout=10)

    class Meeting(Trouble):
        def step(self, action):
            together.wait()
            return super().step(action)

    vector = SlotVectorEnv(ThreadSlots(lambda _: single(InHandBackend(), Meeting), 3))
    vector.reset(seed=[3, 4, None])
    assert vector.step(np.zeros(3, np.int64))[1].tolist() == [1.0, 1.0, 1.0]
    vector.close()


def test_a_failure_of_one_cuts_its_episode_alone(vector) -> None:
    vector.reset()
    _, rewards, terminated, truncated, infos = vector.step(np.array([0, 1, 0]))
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert (terminated.tolist(), truncated.tolist()) == ([False] * 3, [False, True, False])
    assert infos["outcome"].tolist() == ["ok", "env_failure", "ok"]
    assert vector.step(np.zeros(3, np.int64))[4]["episode_steps"].tolist() == [2, 0, 2]


def test_remotes_are_counted_with_those_that_were_lost() -> None:
    backend = InHandBackend()
    vector = of_three(backend)
    vector.reset()
    assert (vector.remotes_started, vector.remotes_lost) == (3, 0)
    backend.taken.add(vector.remote_ids[1])
    for env in vector.slots.envs:
        env._remote.tenancy._look_at_s = 0.0
    infos = vector.step(np.zeros(3, np.int64))[4]
    assert infos["outcome"].tolist() == ["ok", "preempted", "ok"]
    vector.step(np.zeros(3, np.int64))
    assert (vector.remotes_started, vector.remotes_lost) == (4, 1)
    vector.close()
    assert len(backend.released) == 3


def test_pictures_come_one_from_each(vector) -> None:
    vector.reset()
    vector.step(np.zeros(3, np.int64))
    assert [picture.max() for picture in vector.render()] == [1, 1, 1]


def test_wrong_numbers_of_actions_and_seeds_are_refused(vector) -> None:
    with pytest.raises(ConfigError, match="expected 3 seeds, got 2"):
        vector.reset(seed=[1, 2])
    vector.reset()
    with pytest.raises(ConfigError, match="each of 3 slots"):
        vector.step(np.zeros(2, np.int64))


def test_an_action_outside_of_its_space_is_refused(vector) -> None:
    vector.reset()
    with pytest.raises(ConfigError, match="Discrete"):
        vector.step(np.array([0, 99, 0]))
