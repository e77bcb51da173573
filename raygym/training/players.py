"""Who plays an environment in an evaluation."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from raygym.policies.a3c import A3CPolicy
from raygym.policies.batched import BatchedConfig
from raygym.policies.batched_policy import BatchedPolicy
from raygym.policies.checkpoint import Checkpoint


class Player(Protocol):
    """Plays an environment."""

    def reset(self, seed: int | None) -> None:
        """Prepares for an episode."""
        ...

    def act(self, observation: npt.NDArray[Any], info: Mapping[str, Any]) -> int:
        """Chooses a Discrete action for what the environment returned last."""
        ...


class TrainedPlayer:
    """The agent of a checkpoint.

    Args:
        checkpoint: Its weights.
        seed: Seeds the actions drawn.
        is_greedy: Take the likeliest action instead of drawing one.
    """

    def __init__(self, checkpoint: Checkpoint, *, seed: int, is_greedy: bool) -> None:
        random = np.random.default_rng(seed)
        self._policy: A3CPolicy | BatchedPolicy
        if isinstance(checkpoint.learner, BatchedConfig):
            network = checkpoint.actor_critic()
            self._policy = BatchedPolicy(network.requires_grad_(False), random)
        else:
            self._policy = A3CPolicy(checkpoint.network, checkpoint.learner, random)
            with torch.no_grad():
                vector = nn.utils.parameters_to_vector(checkpoint.actor_critic().parameters())
            self._policy.set_weights(vector.numpy(), version=0)
        self._is_greedy = is_greedy
        self._state = self._policy.initial_state(1)
        self._frames: collections.deque[npt.NDArray[Any]] = collections.deque(
            maxlen=checkpoint.frame_stack
        )

    def reset(self, seed: int | None) -> None:  # noqa: ARG002  as Player has it
        """Forgets the episode before; actions go on being drawn from the one stream."""
        self._state = self._policy.initial_state(1)
        self._frames.clear()

    def act(
        self,
        observation: npt.NDArray[Any],
        info: Mapping[str, Any],  # noqa: ARG002  as Player has it
    ) -> int:
        """Chooses an action; reads no info."""
        missing = (self._frames.maxlen or 1) - len(self._frames)
        # The first observation of an episode stands for those before it, as in StackedSlots.
        self._frames.extend([np.array(observation)] * max(1, missing))
        seen = np.concatenate(self._frames, axis=-1)
        actions, _, _, self._state = self._policy.act(
            seen[None], self._state, is_greedy=self._is_greedy
        )
        return int(actions[0])
