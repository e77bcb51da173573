"""Environments that both ends of an interop test know; for Gymnasium 0.29 and later.

Each is a function of its seed and actions alone, so that a test can play it at home too.
"""

import gymnasium
import numpy as np

PICTURE_SHAPE = (210, 160, 3)


class SeededCartPole(gymnasium.Wrapper):
    """CartPole whose every episode begins with the same seed."""

    reward_range = (0.0, 1.0)

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))

    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=7)


class Pictures(gymnasium.Env):
    """Screens the size of Atari's; each pixel tells the step and the last action.

    Args:
        length: Steps of an episode.
        is_cut: Whether it ends truncated, not terminated.
        render_mode: ``rgb_array`` renders 40 by 60 pixels.
        start: Of the Discrete actions.
    """

    reward_range = (-float("inf"), float("inf"))

    def __init__(self, length=5, is_cut=False, render_mode=None, start=0):
        self.observation_space = gymnasium.spaces.Box(0, 255, PICTURE_SHAPE, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(4, start=start)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
        self.render_mode = render_mode
        self._length = length
        self._is_cut = is_cut
        self._steps = 0
        self._action = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = self._action = 0
        return self._picture(PICTURE_SHAPE), {}

    def step(self, action):
        self._steps += 1
        self._action = int(action)
        is_over = self._steps >= self._length
        reward = 0.5 * self._action
        return (
            self._picture(PICTURE_SHAPE),
            reward,
            is_over and not self._is_cut,
            is_over and self._is_cut,
            {},
        )

    def render(self):
        return self._picture((40, 60, 3)) if self.render_mode == "rgb_array" else None

    def _picture(self, shape):
        rows = np.arange(shape[0], dtype=np.uint8)[:, None, None]
        return np.broadcast_to(rows + np.uint8(10 * self._steps + self._action), shape).copy()


class Raising(Pictures):
    """Raises with the second step of its episodes."""

    def step(self, action):
        if self._steps == 1:
            raise ValueError("the ball is lost")
        return super().step(action)


KINDS = {"cartpole": SeededCartPole, "pictures": Pictures, "raising": Raising}


def create_environment(env_id=0, kind="cartpole", **kwargs):
    """Makes one; remote-gym calls this."""
    return KINDS[kind](**kwargs)
