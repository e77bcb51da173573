"""Several Remotes in lock-step as one vector environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from raygym.errors import ConfigError
from raygym.remote_env.lockstep_env import LockstepEnv

_Stepped: TypeAlias = tuple[Any, float, bool, bool, dict[str, Any]]
_Gathered: TypeAlias = tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]


class LockstepVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Several Remotes in lock-step: a step asks all of them at once and waits for the last.

    The step after an episode's end resets that Remote and ignores its action
    (``AutoresetMode.NEXT_STEP``); its reward is 0 and its ``info`` that of the reset.

    Args:
        envs: One for each Remote, of one kind; closed with this.
        close_also: Called last by ``close``.
    """

    def __init__(
        self, envs: Sequence[LockstepEnv], *, close_also: Callable[[], None] = lambda: None
    ) -> None:
        if not envs:
            self.closed = True
            raise ConfigError("LockstepVectorEnv: expected at least one environment, got none")
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        self.metadata = {**self.envs[0].metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = self.envs[0].render_mode
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._close_also = close_also
        self._is_over = np.ones(self.num_envs, np.bool_)
        self._threads = ThreadPoolExecutor(self.num_envs, thread_name_prefix="lockstep")

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        return sum(env.remotes_started for env in self.envs)

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        return sum(env.remotes_lost for env in self.envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in each Remote.

        Args:
            seed: One for each; a number stands for itself and those that follow.
            options: For all.

        Raises:
            RemoteFailedToStart: No Remote got ready for one of them.
            ConfigError: There are more or fewer seeds than Remotes.
        """
        seeds = _seeds(seed, self.num_envs)

        def reset(index: int) -> _Stepped:
            observation, info = self.envs[index].reset(seed=seeds[index], options=options)
            return observation, 0.0, False, False, info

        observations, _, _, _, infos = self._gather(reset)
        return observations, infos

    def step(self, actions: Any) -> _Gathered:
        """Takes a step in each Remote, or resets it where its episode was over.

        Args:
            actions: One for each, as the action space says.

        Returns:
            Observations, rewards float64[N], terminated bool[N], truncated bool[N], infos.

        Raises:
            ConfigError: An action is not in the space, or there was no reset yet.
            RemoteFailedToStart: No Remote got ready for one of them.
        """
        each = list(iterate(self.action_space, actions))
        if len(each) != self.num_envs:
            raise ConfigError(f"step: expected {self.num_envs} actions, got {len(each)}")

        def step(index: int) -> _Stepped:
            env = self.envs[index]
            if not self._is_over[index]:
                return env.step(each[index])
            observation, info = env.reset()
            return observation, 0.0, False, False, info

        return self._gather(step)

    def render(self) -> tuple[Any, ...] | None:
        """Returns the picture of each Remote; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends every Remote."""
        del kwargs
        list(self._threads.map(LockstepEnv.close, self.envs))
        self._threads.shutdown()
        self._close_also()

    def _gather(self, work: Callable[[int], _Stepped]) -> _Gathered:
        rows = list(self._threads.map(work, range(self.num_envs)))
        infos: dict[str, Any] = {}
        for index, row in enumerate(rows):
            infos = self._add_info(infos, row[4], index)
        out = create_empty_array(self.single_observation_space, self.num_envs, fn=np.empty)
        observations = concatenate(self.single_observation_space, [row[0] for row in rows], out)
        terminated = np.array([row[2] for row in rows], np.bool_)
        truncated = np.array([row[3] for row in rows], np.bool_)
        self._is_over = terminated | truncated
        return observations, np.array([row[1] for row in rows]), terminated, truncated, infos


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    if isinstance(seed, int):
        return [seed + i for i in range(count)]
    if len(seed) != count:
        raise ConfigError(f"reset: expected {count} seeds, got {len(seed)}")
    return list(seed)
