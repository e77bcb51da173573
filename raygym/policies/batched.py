"""The batched learner: a clipped surrogate over several epochs, corrected where weights are old.

The surrogate is that of Schulman et al., "Proximal policy optimization", 2017. Advantages and
targets come from V-trace (``returns.vtrace``), which on data of the newest weights is
generalised advantage estimation. T is time and B the number of slots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from raygym.core import Float32Array, Rollout
from raygym.policies.batched_config import BatchedConfig as BatchedConfig
from raygym.policies.batched_policy import BatchedPolicy as BatchedPolicy
from raygym.policies.flat import FlatParameters
from raygym.policies.networks import ActorCritic, FeedForward, NetworkConfig, make_network
from raygym.policies.returns import fold_cuts, vtrace

Average = Callable[[Tensor], None]
"""Replaces a float32[N] by its mean over all learners, each of which calls it."""

_MOMENTS = 3
_STATISTICS = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A rollout as the loss needs it; each [T, B, ...], constants."""

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    targets: Tensor
    weights: Tensor
    """float32[T, B]: 0.0 where the mask is False."""
    is_first: Tensor
    state: tuple[Tensor, ...]
    """Before step 0, each [B, ...]."""


class BatchedLearner:
    """One of the learners of a run, with the weights and the state of Adam.

    Learners that call ``learn`` in step, each with the ``average`` of all, hold the same weights,
    bit by bit. ``state`` may be called from another thread.

    Args:
        network: Which network.
        config: Constants.
        seed: Seeds the initial weights; the same for all learners.
        rank: Number of this learner; it draws minibatches of its own.
        num_learners: How many there are; they count each other's steps.
    """

    def __init__(
        self,
        network: NetworkConfig,
        config: BatchedConfig,
        *,
        seed: int,
        rank: int = 0,
        num_learners: int = 1,
    ) -> None:
        torch.manual_seed(seed)
        self.config = config
        self.network = make_network(network)
        self.version = 0
        """Counts calls of ``learn``."""
        self.env_steps = 0
        """Steps learned from, over all learners."""
        self.refused_count = 0
        """Gradients with an infinity or NaN in them."""
        self._num_learners = num_learners
        self._random = np.random.default_rng(np.random.SeedSequence([seed, rank, 1]))
        # Behind the gradient travels the number of steps that it is the sum of.
        self._flat = FlatParameters(self.network, spare=1)
        self._optimiser = self._make_optimiser()
        self._lock = threading.Lock()

    @property
    def vector_size(self) -> int:
        """Length of the longest vector that ``learn`` takes a mean of."""
        return max(self._flat.sums.numel(), _MOMENTS)

    def weights(self) -> Float32Array:
        """Returns a copy of the weights, float32[M], as ``BatchedPolicy`` takes them."""
        with self._lock:
            return self._flat.pack()

    def learn(self, rollout: Rollout, *, average: Average | None = None) -> dict[str, float]:
        """Improves the weights by one rollout.

        Steps outside the mask count for nothing. All learners must bring rollouts of one shape.

        Args:
            rollout: T steps of B slots.
            average: Takes the mean over all learners; None for a single one.

        Returns:
            Means over the last epoch: ``policy_loss``, ``value_loss``, ``entropy``, ``kl`` (from
            the policy before), ``clip_fraction``; and ``grad_global_norm``, ``learning_rate``,
            ``ratio`` (mean probability under the newest weights over that of acting),
            ``updates``, ``refused`` (gradients since the start).
        """
        combine = average or _keep
        learning_rate, entropy_weight = self.config.annealed(self.env_steps)
        statistics = {
            **dict.fromkeys((*_STATISTICS, "grad_global_norm"), 0.0),
            "learning_rate": learning_rate,
            "ratio": 1.0,
            "updates": 0.0,
        }
        network = self.network
        is_shown_first = self.version == 0 and self.config.normalises_input
        if is_shown_first and isinstance(network, FeedForward):
            _set_input(network, rollout, combine)
        else:
            batch, statistics["ratio"] = self._prepare(rollout, combine)
            statistics.update(self._run_epochs(batch, combine, learning_rate, entropy_weight))
        self.version += 1
        self.env_steps += rollout.mask.size * self._num_learners
        statistics["refused"] = float(self.refused_count)
        return statistics

    def state(self) -> dict[str, Any]:
        """Returns a copy of weights and optimiser, as ``restore`` takes it; for a checkpoint."""
        with self._lock:
            held = self._optimiser.state.get(self._optimiser.param_groups[0]["params"][0], {})
            return {
                "network": {k: v.clone() for k, v in self.network.state_dict().items()},
                "optimiser": {
                    k: v.clone() if isinstance(v, Tensor) else v for k, v in held.items()
                },
                "version": self.version,
                "env_steps": self.env_steps,
                "refused": self.refused_count,
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state`` returned."""
        with self._lock:
            self.network.load_state_dict(dict(state["network"]))
            self._optimiser = self._make_optimiser()
            if state["optimiser"]:
                held = {
                    k: v.clone() if isinstance(v, Tensor) else v
                    for k, v in state["optimiser"].items()
                }
                self._optimiser.state[self._optimiser.param_groups[0]["params"][0]] = held
            self.version, self.env_steps = state["version"], state["env_steps"]
            self.refused_count = state["refused"]

    def _make_optimiser(self) -> torch.optim.Adam:
        vector = torch.nn.Parameter(self._flat.weights, requires_grad=True)
        vector.grad = self._flat.gradient
        return torch.optim.Adam([vector], lr=0.0, eps=self.config.adam_epsilon, fused=True)

    @torch.no_grad()
    def _prepare(self, rollout: Rollout, average: Average) -> tuple[_Batch, float]:
        """Works out advantages and targets; returns them, and the mean ratio."""
        terminated, truncated, mask = (
            _tensor(a) for a in (rollout.terminated, rollout.truncated, rollout.mask)
        )
        is_first = torch.zeros_like(mask)
        is_first[1:] = (terminated | truncated | ~mask)[:-1]
        observations = _tensor(rollout.observations)
        state = tuple(_tensor(s) for s in rollout.initial_state)
        actions = _tensor(rollout.actions)
        acting = _tensor(rollout.log_probabilities)
        values, newest = _tensor(rollout.values), acting
        if isinstance(self.network, ActorCritic) or not self._is_on_policy(rollout):
            logits, values, state_after = self.network(observations, state, is_first)
            newest = _log_probabilities(logits, actions)
        else:
            state_after = ()
        ratios = torch.where(mask, (newest - acting).exp(), 0.0)
        rewards, discounts = fold_cuts(
            _tensor(rollout.rewards),
            values,
            terminated=terminated,
            truncated=truncated,
            final_values=_tensor(rollout.final_values),
            mask=mask,
            gamma=self.config.gamma,
        )
        last = _tensor(rollout.last_observation)[None]
        nowhere = torch.zeros(last.shape[:2], dtype=torch.bool)
        targets, advantages = vtrace(
            rewards,
            discounts,
            values,
            self.network(last, state_after, nowhere)[1][0],
            ratios,
            gae_lambda=self.config.gae_lambda,
            rho_clip=self.config.rho_clip,
            c_clip=self.config.c_clip,
        )
        weights = mask.to(torch.float32)
        batch = _Batch(
            observations=observations,
            actions=actions,
            log_probabilities=newest,
            advantages=_normalise(advantages, weights, average),
            targets=targets,
            weights=weights,
            is_first=is_first,
            state=state,
        )
        return batch, float(ratios.sum() / weights.sum().clamp(min=1.0))

    def _is_on_policy(self, rollout: Rollout) -> bool:
        if rollout.traces is None:
            return rollout.weights_version == self.version
        versions = rollout.traces.weights_versions[rollout.mask]
        return bool((versions == self.version).all())

    def _run_epochs(
        self, batch: _Batch, average: Average, learning_rate: float, entropy_weight: float
    ) -> dict[str, float]:
        count = 0
        norms: list[float] = []
        sums = torch.zeros(len(_STATISTICS) + 1)
        for epoch in range(self.config.epochs):
            for part in self._minibatches(batch):
                loss, parts = self._loss(part, entropy_weight)
                self._flat.sums.zero_()
                # The stub of torch has no annotation here.
                loss.backward()  # type: ignore[no-untyped-call]
                self._flat.sums[-1] = part.weights.sum()
                average(self._flat.sums)
                norm = self._step(learning_rate)
                count += 1
                if epoch == self.config.epochs - 1:
                    sums += parts
                    norms.append(norm)
        steps = max(1.0, float(sums[-1]))
        means = {name: float(sums[n]) / steps for n, name in enumerate(_STATISTICS)}
        return {**means, "grad_global_norm": float(np.mean(norms)), "updates": float(count)}

    def _minibatches(self, batch: _Batch) -> Iterator[_Batch]:
        steps, columns = batch.actions.shape[:2]
        wanted = max(1, round(steps * columns / self.config.minibatch_steps))
        if isinstance(self.network, ActorCritic):
            order = torch.from_numpy(self._random.permutation(columns))
            for chosen in order.tensor_split(min(wanted, columns)):
                yield _Batch(
                    **{name: getattr(batch, name)[:, chosen] for name in _TIME_MAJOR},
                    state=tuple(s[chosen] for s in batch.state),
                )
            return
        flat = {name: getattr(batch, name).flatten(0, 1) for name in _TIME_MAJOR}
        order = torch.from_numpy(self._random.permutation(steps * columns))
        for chosen in order.tensor_split(min(wanted, steps * columns)):
            yield _Batch(**{name: held[chosen] for name, held in flat.items()}, state=())

    def _loss(self, part: _Batch, entropy_weight: float) -> tuple[Tensor, Tensor]:
        """Returns the loss, a sum over the steps that count, and sums for the statistics."""
        logits, values, _ = self.network(part.observations, part.state, part.is_first)
        every = functional.log_softmax(logits, dim=-1)
        taken = every.gather(-1, part.actions.unsqueeze(-1)).squeeze(-1)
        change = taken - part.log_probabilities
        ratio = change.exp()
        clipped = ratio.clamp(1.0 - self.config.clip, 1.0 + self.config.clip)
        weights = part.weights
        policy = -torch.minimum(ratio * part.advantages, clipped * part.advantages)
        value = 0.5 * (values - part.targets).square()
        entropy = -(every.exp() * every).sum(-1)
        loss = policy + self.config.value_weight * value - entropy_weight * entropy
        with torch.no_grad():
            is_clipped = (ratio != clipped).to(torch.float32)
            columns = (policy, value, entropy, ratio - 1.0 - change, is_clipped)
            sums = torch.stack([*((c * weights).sum() for c in columns), weights.sum()])
        return (loss * weights).sum(), sums

    def _step(self, learning_rate: float) -> float:
        """Takes one step of Adam along the mean gradient; returns its norm before the cut."""
        gradient, count = self._flat.gradient, float(self._flat.sums[-1])
        norm = float(gradient.norm()) / max(count, 1e-12) if count else 0.0
        if not np.isfinite(norm):
            self.refused_count += 1
            return 0.0
        if count:
            scale = min(1.0, self.config.max_grad_norm / max(norm, 1e-12)) / count
            gradient.mul_(scale)
            with self._lock:
                self._optimiser.param_groups[0]["lr"] = learning_rate
                self._optimiser.step()
        return norm


_TIME_MAJOR = (
    *("observations", "actions", "log_probabilities"),
    *("advantages", "targets", "weights", "is_first"),
)


def _set_input(network: FeedForward, rollout: Rollout, average: Average) -> None:
    """Measures the mean and the deviation of what is seen before anything is learned."""
    seen = torch.from_numpy(rollout.observations[rollout.mask]).double()
    count = max(1, seen.numel())
    moments = torch.stack([seen.sum() / count, seen.square().sum() / count]).float()
    average(moments)
    mean, square = moments.tolist()
    network.set_input(mean, max(0.0, square - mean**2) ** 0.5)


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Returns an array as a tensor: itself, or a copy of one that is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _log_probabilities(logits: Tensor, actions: Tensor) -> Tensor:
    """Returns float32[T, B] of actions int64[T, B] under float32[T, B, action_count]."""
    every = functional.log_softmax(logits, dim=-1)
    return every.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def _normalise(advantages: Tensor, weights: Tensor, average: Average) -> Tensor:
    """Shifts and scales to mean 0 and deviation 1 over the steps that count, of all learners."""
    kept = torch.where(weights > 0, advantages, 0.0)
    moments = torch.stack([kept.sum(), kept.square().sum(), weights.sum()])
    average(moments)
    total, square, count = moments.tolist()
    mean = total / max(count, 1e-12)
    deviation = max(0.0, square / max(count, 1e-12) - mean**2) ** 0.5
    return torch.where(weights > 0, (advantages - mean) / (deviation + 1e-8), 0.0)


def _keep(vector: Tensor) -> None:
    """The mean over one learner."""
