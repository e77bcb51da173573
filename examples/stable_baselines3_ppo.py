"""PPO of Stable-Baselines3 over raygym.make_vec; see requirements.txt for its version.

python examples/stable_baselines3_ppo.py [ENV_ID] [STEPS]

Stable-Baselines3 wants the next episode's first observation with the last step of an episode:
that is Gymnasium's SAME_STEP mode. It knows no failed steps; MaskedRolloutBuffer leaves those
out of its losses whose outcome is not "ok".
"""

import sys

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import raygym

NUM_ENVS = 8


class RaygymVecEnv(VecEnv):
    """A Gymnasium vector environment in SAME_STEP mode as one of Stable-Baselines3."""

    def __init__(self, envs: gymnasium.vector.VectorEnv) -> None:
        self.envs = envs
        self.has_failed = np.zeros(envs.num_envs, bool)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self):
        """Begins an episode everywhere, with the seeds that were set."""
        observations, _ = self.envs.reset(seed=self._seeds)
        self._reset_seeds()
        return observations

    def step_async(self, actions) -> None:
        """Keeps the actions for ``step_wait``."""
        self.actions = actions

    def step_wait(self):
        """Returns observations, rewards float32[N], dones bool[N] and N infos."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self.actions)
        dones = terminated | truncated
        each = [{} for _ in dones]
        for slot in np.flatnonzero(dones):
            each[slot]["terminal_observation"] = infos["final_obs"][slot]
            each[slot]["TimeLimit.truncated"] = bool(truncated[slot] and not terminated[slot])
        outcomes = infos.get("final_info", {}).get("outcome", [None] * self.num_envs)
        self.has_failed = dones & [outcome not in (None, "ok") for outcome in outcomes]
        return observations, rewards.astype(np.float32), dones, each

    def close(self) -> None:
        """Ends the environments."""
        self.envs.close()

    def get_attr(self, attr_name, indices=None):
        """Returns an attribute of the vector environment, once for each slot."""
        return [getattr(self.envs, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name, value, indices=None) -> None:
        """Not possible: the environments may live in other processes."""
        raise NotImplementedError

    def env_method(self, method_name, *args, indices=None, **kwargs):
        """Not possible: the environments may live in other processes."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        """Returns False for each slot."""
        return [False for _ in self._get_indices(indices)]


class MaskedRolloutBuffer(RolloutBuffer):
    """Keeps steps that failed out of the losses, and their rewards out of the steps before."""

    def __init__(self, *args, envs: RaygymVecEnv, **kwargs) -> None:
        self.envs = envs
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forgets everything."""
        super().reset()
        self.is_whole = np.ones((self.buffer_size, self.n_envs), bool)

    def add(self, obs, action, reward, episode_start, value, log_prob) -> None:
        """Adds a step of each slot; one that failed gets an advantage of 0."""
        self.is_whole[self.pos] = ~self.envs.has_failed
        reward = np.where(self.envs.has_failed, value.numpy().flatten(), reward)
        super().add(obs, action, reward, episode_start, value, log_prob)

    def _get_samples(self, batch_inds, env=None):
        is_whole = self.swap_and_flatten(self.is_whole)[batch_inds, 0]
        return super()._get_samples(batch_inds[is_whole], env)


def main() -> None:
    """Learns, then prints the mean return of the last 100 episodes."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "CartPole-v1"
    total_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    torch.set_num_threads(1)
    envs = RaygymVecEnv(raygym.make_vec(env_id, NUM_ENVS, autoreset_mode="SameStep"))
    is_picture = len(envs.observation_space.shape) == 3
    try:
        model = PPO(
            "CnnPolicy" if is_picture else "MlpPolicy",
            VecMonitor(envs),
            rollout_buffer_class=MaskedRolloutBuffer,
            rollout_buffer_kwargs={"envs": envs},
            **{"n_steps": 32, "batch_size": 128, "n_epochs": 10, "learning_rate": 1e-3},
            **{"gamma": 0.98, "gae_lambda": 0.8, "seed": 1, "device": "cpu"},
        )
        model.learn(total_steps)
    finally:
        envs.close()
    mean = np.mean([episode["r"] for episode in model.ep_info_buffer])
    print(f"{model.num_timesteps} steps: mean return {mean:.1f}")


if __name__ == "__main__":
    main()
