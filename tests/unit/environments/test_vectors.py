from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import raygym
from raygym.errors import ConfigError
from raygym.remote_env.realtime_vector import RealtimeVectorEnv
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.thread_slots import ThreadSlots
from raygym.vector.vector_env import SlotVectorEnv
from tests.unit.remote_env.fakes import FakeRemotes

CATCH = "test.Catch-v0"
NEON = "flashgames.NeonRace-v0"


def test_a_vector_equals_gymnasiums_own() -> None:
    ours = raygym.make_vec("CartPole-v1", 3, vectorization="inline", autoreset_mode="SameStep")
    theirs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1")] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert isinstance(ours.slots, InlineSlots)
    assert np.array_equal(ours.reset(seed=4)[0], theirs.reset(seed=4)[0])
    for _ in range(40):
        mine, wanted = ours.step(np.ones(3, np.int64)), theirs.step(np.ones(3, np.int64))
        for part, expected in zip(mine[:4], wanted[:4], strict=True):
            assert np.array_equal(part, expected)
    ours.close()
    theirs.close()


def test_in_real_time_the_plain_vector_paces_itself_and_others_are_of_threads() -> None:
    made = raygym.make_vec(CATCH, 2, backend=FakeRemotes())
    assert isinstance(made, RealtimeVectorEnv)
    made.close()
    for settings in ({"batch_size": 1}, {"frame_stack": 2}, {"autoreset_mode": "Disabled"}):
        made = raygym.make_vec(CATCH, 2, backend=FakeRemotes(), **settings)
        assert isinstance(made, SlotVectorEnv)
        assert made.num_envs == 2
        made.close()


def test_a_lockstep_vector_has_a_thread_for_each_remote() -> None:
    made = raygym.make_vec(NEON, 2, mode="lockstep", backend=FakeRemotes(), render_mode="rgb_array")
    assert isinstance(made.slots, ThreadSlots)
    assert made.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert made.render_mode == "rgb_array"
    made.close()


def test_num_envs_and_remotes_mean_the_same_count() -> None:
    for counts in ({"num_envs": 2}, {"remotes": 2}, {"num_envs": 2, "remotes": 2}):
        made = raygym.make_vec(CATCH, backend="fake", **counts)
        assert made.num_envs == 2
        made.close()
    with pytest.raises(ConfigError, match="num_envs=2 and remotes=3 disagree"):
        raygym.make_vec(CATCH, 2, remotes=3, backend="fake")
    with pytest.raises(ConfigError, match="num_envs: expected 1 or more"):
        raygym.make_vec(CATCH, 0, backend="fake")
    two = "vnc://a:5900+15900,b:5900+15900"
    with pytest.raises(ConfigError, match="disagree"):
        raygym.make_vec(CATCH, 3, remotes=two)


def test_gymnasium_makes_the_same_with_its_own_arguments() -> None:
    made = gymnasium.make_vec(
        CATCH, num_envs=2, vectorization_mode="vector_entry_point", backend="fake"
    )
    assert (made.num_envs, type(made)) == (2, RealtimeVectorEnv)
    made.close()
    made = gymnasium.make_vec(CATCH, num_envs=2, backend="fake", autoreset_mode="SameStep")
    assert made.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    made.close()
    made = gymnasium.make_vec(
        CATCH,
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
        backend="fake",
    )
    assert made.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    made.close()
    made = gymnasium.make_vec(CATCH, remotes=3, backend="fake")
    assert made.num_envs == 3
    made.close()


def test_an_autoreset_mode_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected NextStep, SameStep, Disabled, got 'Never'"):
        raygym.make_vec("CartPole-v1", 2, autoreset_mode="Never")
