"""The policy of the batched learner: it acts, in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from raygym.core import Float32Array
from raygym.errors import ConfigError
from raygym.policies.flat import FlatParameters
from raygym.policies.networks import Network, NetworkConfig, make_network


class BatchedPolicy:
    """Acts for many slots at once.

    Args:
        network: The network to act with, shared with whoever learns; or what to build one of.
        random: Source of the actions drawn.
    """

    def __init__(self, network: Network | NetworkConfig, random: np.random.Generator) -> None:
        self.random = random
        self.weights_version = 0
        self._flat: FlatParameters | None = None
        if isinstance(network, NetworkConfig):
            self.network = make_network(network)
            self.network.requires_grad_(False)
            self._flat = FlatParameters(self.network)
        else:
            self.network = network

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the state at the start of an episode, each float32[batch, lstm]; or ()."""
        return tuple(s.numpy() for s in self.network.initial_state(batch))

    def act(
        self,
        observations: npt.NDArray[Any],
        state: tuple[Float32Array, ...],
        *,
        is_greedy: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Draws an action for each slot.

        Args:
            observations: uint8 or float32[B, ...].
            state: As the last call returned it.
            is_greedy: Take the likeliest action instead of drawing one.

        Returns:
            actions int64[B], log_probabilities float32[B], values float32[B], state.
        """
        log_probabilities, values, following = self._run(observations, state)
        if is_greedy:
            actions = log_probabilities.argmax(axis=-1)
        else:
            gumbel = self.random.gumbel(size=log_probabilities.shape)
            actions = (log_probabilities + gumbel).argmax(axis=-1)
        taken = log_probabilities[np.arange(len(actions)), actions]
        return actions, taken, values, following

    def values(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Float32Array:
        """Returns the values float32[B] of observations [B, ...]; draws nothing."""
        return self._run(observations, state)[1]

    def set_weights(self, vector: Float32Array, version: int) -> None:
        """Takes over float32[M] weights, as ``BatchedLearner.weights`` gives them.

        Raises:
            ConfigError: They belong to another network, or the network is a learner's.
        """
        if self._flat is None:
            raise ConfigError(
                "BatchedPolicy.set_weights: this policy acts with its learner's own network, "
                "whose weights are always the newest"
            )
        self._flat.unpack(vector)
        self.weights_version = version

    @torch.inference_mode()
    def _run(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> tuple[Float32Array, Float32Array, tuple[Float32Array, ...]]:
        held = torch.from_numpy(np.ascontiguousarray(observations)[None])
        logits, values, following = self.network(
            held,
            tuple(torch.from_numpy(s) for s in state),
            torch.zeros(held.shape[:2], dtype=torch.bool),
        )
        log_probabilities = functional.log_softmax(logits[0], dim=-1)
        return log_probabilities.numpy(), values[0].numpy(), tuple(s.numpy() for s in following)
