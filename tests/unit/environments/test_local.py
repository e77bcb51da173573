from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest

import raygym
from raygym.config import ObservationConfig
from raygym.environments.local import LocalConfig, LocalEnv
from raygym.errors import ConfigError, RemoteEnvError
from tests.support.lockstep import Trouble

PONG = "gym-core.PongDeterministic-v3"
SMALL = ObservationConfig(height_px=40, width_px=40, is_grey=True, crop=(0, 34, 160, 160))
TROUBLE = "tests.support.local_ids:raygym-test/Trouble-v0"


def trouble(**kwargs) -> LocalEnv:
    return LocalEnv(LocalConfig(env_id=TROUBLE, **kwargs))


def test_a_plain_id_needs_no_remote() -> None:
    env = raygym.make("CartPole-v1")
    home = gymnasium.make("CartPole-v1")
    assert np.array_equal(env.reset(seed=3)[0], home.reset(seed=3)[0])
    observation, reward, terminated, truncated, info = env.step(1)
    assert np.array_equal(observation, home.step(1)[0])
    assert (reward, terminated, truncated) == (1.0, False, False)
    assert info == {"outcome": "ok", "episode_score": 1.0, "episode_steps": 1, "seed": 3}
    env.close()
    home.close()


def test_one_of_gym_core_runs_here_where_that_is_asked_for(monkeypatch) -> None:
    assert isinstance(raygym.make("gym-core.CartPole-v1", backend="local"), LocalEnv)
    monkeypatch.setenv("RAYGYM_BACKEND", "local")
    assert isinstance(raygym.make("gym-core.CartPole-v1"), LocalEnv)


def test_observations_are_cropped_greyed_and_scaled() -> None:
    env = raygym.make(PONG, backend="local", observation=SMALL)
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (40, 40, 1), np.uint8)
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert info["lives"] == 0
    for _ in range(30):
        observation = env.step(2)[0]
    assert observation.std() > 1
    env.close()


def test_frames_are_skipped_with_their_rewards_summed() -> None:
    env = trouble(frame_skip=4, env_kwargs={"length": 6})
    env.reset()
    assert env.step(0)[1:3] == (4.0, False)
    assert env.step(0)[1:3] == (2.0, True)
    env.close()


def test_an_environment_that_raises_ends_the_episode_and_is_made_anew() -> None:
    env = trouble()
    last = env.reset(seed=4)[0]
    before = env._slot.env
    observation, reward, terminated, truncated, info = env.step(1)
    assert np.array_equal(observation, last)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["outcome"] == "env_failure"
    assert "told to raise" in info["reason"]
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    env.reset()
    assert env._slot.env is not before
    with pytest.raises(RemoteEnvError, match="told to raise in reset"):
        env.reset(options={"raise": True})
    env.reset()
    env.close()
    env.close()


def test_a_picture_comes_with_a_render_mode() -> None:
    env = trouble(render_mode="rgb_array")
    env.reset()
    env.step(0)
    assert env.render().max() == 1
    assert env.metadata["render_modes"] == ["rgb_array"]
    assert trouble().render() is None


def test_actions_outside_of_the_space_are_refused() -> None:
    env = trouble()
    env.reset()
    with pytest.raises(ConfigError, match=r"the action 99 is not in Discrete\(10\)"):
        env.step(99)
    assert env.step(np.int64(0))[1] == 1.0


def test_what_is_no_picture_cannot_be_cropped() -> None:
    with pytest.raises(ConfigError, match="picture"):
        trouble(observation=ObservationConfig(crop=(0, 0, 1, 1)))
    with pytest.raises(ConfigError, match="the crop ends at column 200"):
        raygym.make(PONG, backend="local", observation=ObservationConfig(crop=(0, 0, 200, 9)))


def test_a_config_pickles() -> None:
    config = LocalConfig(env_id="CartPole-v1", observation=SMALL)
    assert pickle.loads(pickle.dumps(config)) == config
    assert isinstance(LocalConfig(env_id=TROUBLE).make().unwrapped, Trouble)


@pytest.mark.parametrize(
    ("env_id", "settings", "part"),
    [
        ("CartPole-v1", {"backend": "process"}, "ask for gym-core.CartPole-v1"),
        ("CartPole-v1", {"remotes": "grpc://h:1"}, "drop the addresses"),
        ("CartPole-v1", {"mode": "realtime"}, "no screen here"),
        ("CartPole-v1", {"fps": 10}, "fps: CartPole-v1 is made here"),
        ("CartPole-v1", {"is_insecure": True}, "is_insecure: CartPole-v1 is made here"),
        ("gym-core.CartPole-v1", {"backend": "local", "mode": "realtime"}, "no screen here"),
        ("gym-core.NoSuch-v0", {"backend": "local"}, "unknown environment gym-core.NoSuch-v0"),
        ("test.Catch-v0", {"backend": "local"}, "test.Catch-v0 needs a remote"),
        ("NoSuch-v0", {}, "unknown environment 'NoSuch-v0'"),
    ],
)
def test_what_needs_a_remote_is_refused(env_id, settings, part) -> None:
    with pytest.raises(ConfigError, match=part):
        raygym.make(env_id, **settings)
