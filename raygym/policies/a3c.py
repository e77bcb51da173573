"""Asynchronous advantage actor-critic (Mnih et al., 2016) as universe-starter-agent has it.

Each actor computes gradients with its own copy of the weights; ``SharedParameters`` applies
them as they come. T is time and B the number of slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from raygym.config import check_range
from raygym.core import Float32Array, Rollout, UInt8Array
from raygym.errors import ConfigError
from raygym.policies.annealing import annealed
from raygym.policies.networks import Network, NetworkConfig, make_network
from raygym.policies.returns import fold_cuts, generalised_advantages, n_step_returns

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class A3CConfig:
    """The constants of A3C.

    The defaults are for few workers, whose gradients are noisy: credit for some 30 steps, and a
    norm that lets no single rollout move the weights far. Universe-starter-agent's, for dozens,
    were gamma 0.99, lambda 1, learning rate 1e-4, norm 40.
    """

    gamma: float = 0.97
    """Discount of one step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    learning_rate: float = 5e-4
    """Step size of Adam."""
    value_weight: float = 0.5
    """Weight of the value loss, itself half the sum of squares."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    anneal_updates: int | None = None
    """Gradients, of all actors, in which the step size and the weight of the entropy bonus fall
    to their last values, in a straight line; None for never. One gradient is made of
    ``rollout_steps`` of each slot of its actor."""
    final_learning_rate: float = 0.0
    """Step size after ``anneal_updates``."""
    final_entropy_weight: float = 0.0
    """Weight of the entropy bonus after ``anneal_updates``."""
    max_grad_norm: float = 1.0
    """Longest gradient; a longer one is scaled down to it."""
    rollout_steps: int = 20
    """Steps of one rollout, T."""

    def __post_init__(self) -> None:
        check_range("A3CConfig", "gamma", self.gamma, 0.0, 1.0)
        check_range("A3CConfig", "gae_lambda", self.gae_lambda, 0.0, 1.0)
        check_range("A3CConfig", "learning_rate", self.learning_rate, 0.0, 1.0)
        check_range("A3CConfig", "value_weight", self.value_weight, 0.0, 1e3)
        check_range("A3CConfig", "entropy_weight", self.entropy_weight, 0.0, 1e3)
        if self.anneal_updates is not None:
            check_range("A3CConfig", "anneal_updates", self.anneal_updates, 1, 1e15)
        check_range("A3CConfig", "final_learning_rate", self.final_learning_rate, 0.0, 1.0)
        check_range("A3CConfig", "final_entropy_weight", self.final_entropy_weight, 0.0, 1e3)
        check_range("A3CConfig", "max_grad_norm", self.max_grad_norm, 1e-6, 1e9)
        check_range("A3CConfig", "rollout_steps", self.rollout_steps, 1, 10_000)

    def annealed(self, version: int) -> tuple[float, float]:
        """Returns the step size and the weight of the entropy bonus after so many gradients."""
        return (
            annealed(self.learning_rate, self.final_learning_rate, version, self.anneal_updates),
            annealed(self.entropy_weight, self.final_entropy_weight, version, self.anneal_updates),
        )


@dataclass(frozen=True)
class Loss:
    """The parts of A3C's loss, each a sum over steps and slots: float32[]."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor


def a3c_loss(
    logits: Tensor,
    values: Tensor,
    *,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    mask: Tensor,
    config: A3CConfig,
    version: int = 0,
) -> Loss:
    """Sums ``-log pi(a) A + value_weight (V - R)^2 / 2 - entropy_weight H`` where mask is True.

    Args:
        logits: float32[T, B, action_count].
        values: float32[T, B], with their gradient.
        actions: int64[T, B], those taken.
        advantages: float32[T, B], constants.
        returns: float32[T, B], constants: what the values aim at.
        mask: bool[T, B]; a step that is False adds nothing.
        config: Weights of the parts.
        version: How many gradients the weights have seen, which the entropy's weight falls with.
    """
    log_probabilities = functional.log_softmax(logits, dim=-1)
    taken = log_probabilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    weights = mask.to(values.dtype)
    policy = -(taken * advantages * weights).sum()
    value = 0.5 * ((values - returns).square() * weights).sum()
    entropy = -((log_probabilities.exp() * log_probabilities).sum(-1) * weights).sum()
    _, entropy_weight = config.annealed(version)
    total = policy + config.value_weight * value - entropy_weight * entropy
    return Loss(total=total, policy=policy, value=value, entropy=entropy)


@dataclass(frozen=True)
class Gradient:
    """What one rollout says about the weights."""

    vector: Float32Array
    """float32[N], over all parameters in order, already cut to ``max_grad_norm``."""
    statistics: dict[str, float]
    """``policy_loss``, ``value_loss``, ``entropy`` (each a mean over the steps that count),
    ``grad_global_norm`` (before the cut), ``var_global_norm``, ``steps``."""


class A3CPolicy:
    """One actor's copy of the network: it acts, and computes gradients.

    ``act``, ``values`` and ``set_weights`` may be called from one thread while another is in
    ``gradient``, so that acting does not wait for learning.

    Args:
        network: Size of the network.
        config: Constants of the loss.
        random: Source of the actions drawn.
    """

    def __init__(
        self, network: NetworkConfig, config: A3CConfig, random: np.random.Generator
    ) -> None:
        self.config = config
        self.weights_version = 0
        self.random = random
        self._acting = make_network(network)
        self._acting.requires_grad_(False)
        self._learning = make_network(network)

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the state an episode starts with: (h, c), each float32[batch, lstm]; or ()."""
        return tuple(part.numpy() for part in self._acting.initial_state(batch))

    def act(
        self,
        observations: UInt8Array,
        state: tuple[Float32Array, ...],
        *,
        is_greedy: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Draws an action for each slot.

        Args:
            observations: uint8[B, H, W, C].
            state: As the last call returned it.
            is_greedy: Take the likeliest action instead of drawing one.

        Returns:
            actions int64[B], log_probabilities float32[B], values float32[B], state.
        """
        logits, values, following = self._run(observations, state)
        log_probabilities = functional.log_softmax(logits, dim=-1).numpy()
        if is_greedy:
            actions = log_probabilities.argmax(axis=-1)
        else:
            gumbel = self.random.gumbel(size=log_probabilities.shape)
            actions = (log_probabilities + gumbel).argmax(axis=-1)
        taken = np.take_along_axis(log_probabilities, actions[:, None], axis=-1)[:, 0]
        return actions, taken, values.numpy(), following

    def values(self, observations: UInt8Array, state: tuple[Float32Array, ...]) -> Float32Array:
        """Returns the values float32[B] of observations uint8[B, H, W, C]; draws nothing."""
        _, values, _ = self._run(observations, state)
        return np.asarray(values.numpy(), dtype=np.float32)

    def set_weights(self, vector: Float32Array, version: int) -> None:
        """Takes over float32[N] weights, as ``SharedParameters.weights`` gives them."""
        _load(self._learning, vector)
        # One tensor at a time: an act() in between sees a mix of two versions one update
        # apart, which costs less than making it wait.
        _load(self._acting, vector)
        self.weights_version = version

    def gradient(self, rollout: Rollout) -> Gradient:
        """Computes the gradient of the loss over a rollout, with the newest weights.

        Args:
            rollout: T steps of B slots. The advantages rest on the values that it recorded.

        Returns:
            The gradient, cut to ``config.max_grad_norm``.
        """
        network = self._learning
        network.zero_grad(set_to_none=True)
        loss = self._loss(network, rollout)
        # The stub of torch has no annotation here.
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.config.max_grad_norm)
        vector = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                for p in network.parameters()
            ]
        )
        count = int(rollout.mask.sum())
        per_step = 1.0 / max(1, count)
        with torch.no_grad():
            weights_norm = nn.utils.parameters_to_vector(network.parameters()).norm()
        return Gradient(
            vector=vector.numpy(),
            statistics={
                "policy_loss": float(loss.policy.detach()) * per_step,
                "value_loss": float(loss.value.detach()) * per_step,
                "entropy": float(loss.entropy.detach()) * per_step,
                "grad_global_norm": float(norm),
                "var_global_norm": float(weights_norm),
                "steps": float(count),
            },
        )

    def _loss(self, network: Network, rollout: Rollout) -> Loss:
        observations = torch.from_numpy(
            np.concatenate([rollout.observations, rollout.last_observation[None]])
        )
        terminated, truncated, mask = (
            torch.from_numpy(a) for a in (rollout.terminated, rollout.truncated, rollout.mask)
        )
        # The extra last step gives the bootstrap value; the state before step 0 is right as is.
        is_first = torch.zeros(observations.shape[:2], dtype=torch.bool)
        is_first[1:] = terminated | truncated | ~mask
        state = tuple(torch.from_numpy(s) for s in rollout.initial_state)
        logits, values, _ = network(observations, state, is_first)
        acting_values = torch.from_numpy(rollout.values)
        rewards, discounts = fold_cuts(
            torch.from_numpy(rollout.rewards),
            acting_values,
            terminated=terminated,
            truncated=truncated,
            final_values=torch.from_numpy(rollout.final_values),
            mask=mask,
            gamma=self.config.gamma,
        )
        bootstrap = values[-1].detach()
        return a3c_loss(
            logits[:-1],
            values[:-1],
            actions=torch.from_numpy(rollout.actions),
            advantages=generalised_advantages(
                rewards, discounts, acting_values, bootstrap, gae_lambda=self.config.gae_lambda
            ),
            returns=n_step_returns(rewards, discounts, bootstrap),
            mask=mask,
            config=self.config,
            version=self.weights_version,
        )

    @torch.inference_mode()
    def _run(
        self, observations: UInt8Array, state: tuple[Float32Array, ...]
    ) -> tuple[Tensor, Tensor, tuple[Float32Array, ...]]:
        pictures = torch.from_numpy(np.ascontiguousarray(observations)[None])
        held = tuple(torch.from_numpy(s) for s in state)
        is_first = torch.zeros(pictures.shape[:2], dtype=torch.bool)
        logits, values, following = self._acting(pictures, held, is_first)
        return logits[0], values[0], tuple(part.numpy() for part in following)


class SharedParameters:
    """The one true copy of the weights, with the state of Adam (Kingma and Ba, 2015).

    Args:
        network: Size of the network.
        config: Constants of the optimiser.
        seed: Seeds the initial weights.
    """

    def __init__(self, network: NetworkConfig, config: A3CConfig, *, seed: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self._network = make_network(network)
        self._network.requires_grad_(False)
        self._config = config
        self._weights = nn.utils.parameters_to_vector(self._network.parameters()).clone()
        self._mean = torch.zeros_like(self._weights)
        self._square = torch.zeros_like(self._weights)
        self.version = 0
        self.refused_count = 0

    def weights(self) -> tuple[int, Float32Array]:
        """Returns the version, which counts gradients, and float32[N] weights of one's own."""
        return self.version, self._weights.numpy().copy()

    def apply(self, gradient: Float32Array) -> tuple[int, Float32Array]:
        """Takes one step of Adam along ``gradient`` and returns ``weights()``.

        A gradient with an infinity or NaN in it is counted and otherwise ignored.

        Args:
            gradient: float32[N].
        """
        if gradient.shape != tuple(self._weights.shape):
            raise ConfigError(
                f"SharedParameters.apply: expected a gradient of {tuple(self._weights.shape)}, "
                f"got {gradient.shape}: the actor runs another network"
            )
        if not np.isfinite(gradient).all():
            self.refused_count += 1
            return self.weights()
        learning_rate, _ = self._config.annealed(self.version)
        self.version += 1
        along = torch.from_numpy(np.array(gradient, dtype=np.float32))
        self._mean.lerp_(along, 1 - ADAM_BETAS[0])
        self._square.mul_(ADAM_BETAS[1]).addcmul_(along, along, value=1 - ADAM_BETAS[1])
        mean_part, square_part = (1 - beta**self.version for beta in ADAM_BETAS)
        scale = (self._square / square_part).sqrt_().add_(ADAM_EPSILON)
        self._weights.addcdiv_(self._mean, scale, value=-learning_rate / mean_part)
        return self.weights()

    def state(self) -> dict[str, Any]:
        """Returns a copy of weights, optimiser and random state, as ``restore`` takes it."""
        _load(self._network, self._weights.numpy())
        return {
            "network": {k: v.clone() for k, v in self._network.state_dict().items()},
            "optimiser": {"mean": self._mean.clone(), "square": self._square.clone()},
            "version": self.version,
            "torch_random": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[int, Float32Array]:
        """Takes over what ``state`` returned, and returns ``weights()``."""
        self._network.load_state_dict(dict(state["network"]))
        self._weights.copy_(nn.utils.parameters_to_vector(self._network.parameters()))
        self._mean.copy_(state["optimiser"]["mean"])
        self._square.copy_(state["optimiser"]["square"])
        self.version = state["version"]
        torch.set_rng_state(state["torch_random"])
        return self.weights()


def _load(network: nn.Module, vector: Float32Array) -> None:
    """Copies float32[N] into the parameters, in order."""
    start = 0
    with torch.no_grad():
        for parameter in network.parameters():
            stop = start + parameter.numel()
            part = np.array(vector[start:stop], dtype=np.float32)
            parameter.copy_(torch.from_numpy(part).view_as(parameter))
            start = stop
    if start != vector.size:
        raise ConfigError(
            f"these weights have {vector.size} numbers, the network has {start}: "
            "they belong to another network"
        )
