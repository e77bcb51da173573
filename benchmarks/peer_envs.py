"""Environments that benchmarks/lockstep.py has hosted by raygym and by remote-gym.

They cost next to nothing, so that a step tells what the way costs. For Gymnasium 0.29 and later.
"""

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv


class StillPictures(gymnasium.Env):
    """Gives the same array again and again, but for its first element.

    Args:
        shape: Of its observations.
        dtype: Of its observations.
    """

    reward_range = (-float("inf"), float("inf"))

    def __init__(self, shape, dtype):
        self.observation_space = gymnasium.spaces.Box(0, 255, tuple(shape), np.dtype(dtype).type)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._picture = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._picture, {}

    def step(self, action):
        self._picture.flat[0] = int(action)
        return self._picture, 1.0, False, False, {}


class CartPole(CartPoleEnv):
    """CartPole that never ends, since a reset would cost more than many steps."""

    reward_range = (0.0, 1.0)

    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        if terminated:
            observation, info = self.reset()
        return observation, reward, False, False, info


KINDS = {
    "cartpole": CartPole,
    "screen": lambda: StillPictures((768, 1024, 3), "uint8"),
    "floats": lambda: StillPictures((210, 160, 3), "float32"),
}


def create_environment(env_id=0, kind="cartpole"):
    """Makes one; remote-gym calls this, and raygym as ``peer_envs.py:create_environment``."""
    return KINDS[kind]()
