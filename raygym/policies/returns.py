"""What a step was worth: returns and advantages, as pure functions.

T is time and B the number of slots. A rollout may hold the end of an episode, and the start
of the next, at any step. How an episode ended decides what the steps before it aim at:

=============================  =========================================================
step t                         what stands for the rewards after it
=============================  =========================================================
terminated                     nothing: 0
truncated (a time limit)       ``final_values[t]``, of the observation it ended on
not in the mask (a failure)    has no target; step t - 1 aims at ``values[t]``
any other                      the rewards of the steps after it
=============================  =========================================================
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def fold_cuts(
    rewards: Tensor,
    values: Tensor,
    *,
    terminated: Tensor,
    truncated: Tensor,
    final_values: Tensor,
    mask: Tensor,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Adds to each last reward before a cut what the cut hides, and stops discounting there.

    Args:
        rewards: float32[T, B].
        values: float32[T, B], of the observations that the steps answered.
        terminated: bool[T, B]; the episode reached its own end with this step.
        truncated: bool[T, B]; the episode was cut with this step.
        final_values: float32[T, B]; read where a step is truncated only.
        mask: bool[T, B]; False for a step that failed.
        gamma: Discount of one step.

    Returns:
        rewards float32[T, B] and discounts float32[T, B]; a discount of 0 says that nothing
        after that step counts for it. Both are 0 where the mask is False.
    """
    next_failed = torch.zeros_like(mask)
    next_failed[:-1] = ~mask[1:]
    is_end = terminated | truncated | ~mask
    next_values = torch.zeros_like(values)
    next_values[:-1] = values[1:]
    hidden = torch.where(truncated & ~terminated, final_values, torch.zeros_like(values))
    hidden = torch.where(next_failed & ~is_end, next_values, hidden)
    folded = torch.where(mask, rewards + gamma * hidden, torch.zeros_like(rewards))
    discounts = gamma * (~(is_end | next_failed)).to(rewards.dtype)
    return folded, discounts


def n_step_returns(rewards: Tensor, discounts: Tensor, bootstrap_value: Tensor) -> Tensor:
    """Sums discounted rewards backwards in time.

    Args:
        rewards: float32[T, B], as ``fold_cuts`` gives them.
        discounts: float32[T, B], as ``fold_cuts`` gives them.
        bootstrap_value: float32[B], value of the observation after step T - 1.

    Returns:
        float32[T, B], the return from each step.
    """
    returns = torch.empty_like(rewards)
    following = bootstrap_value
    for t in reversed(range(rewards.shape[0])):
        following = rewards[t] + discounts[t] * following
        returns[t] = following
    return returns


def generalised_advantages(
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap_value: Tensor,
    *,
    gae_lambda: float,
) -> Tensor:
    """Estimates advantages as in Schulman et al., "High-dimensional continuous control", 2015.

    Args:
        rewards: float32[T, B], as ``fold_cuts`` gives them.
        discounts: float32[T, B], as ``fold_cuts`` gives them.
        values: float32[T, B], of the observations that the steps answered.
        bootstrap_value: float32[B], value of the observation after step T - 1.
        gae_lambda: 0.0 trusts the values, 1.0 the rewards.

    Returns:
        float32[T, B].
    """
    next_values = torch.cat([values[1:], bootstrap_value.unsqueeze(0)])
    errors = rewards + discounts * next_values - values
    return n_step_returns(errors, gae_lambda * discounts, torch.zeros_like(bootstrap_value))


class VTrace(NamedTuple):
    """What V-trace says of a rollout."""

    targets: Tensor
    """float32[T, B]: what the values aim at, v in the paper."""
    advantages: Tensor
    """float32[T, B]: what the policy's gradient is weighted with; 0 where the ratio is 0."""


def vtrace(
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap_value: Tensor,
    ratios: Tensor,
    *,
    gae_lambda: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    advantage_rho_clip: float = 1.0,
) -> VTrace:
    """Corrects for actions that other weights chose: Espeholt et al., "IMPALA", 2018, section 4.

    With lambda (their remark 2), where ratios of 1 give ``generalised_advantages`` and, as
    targets, these and the values. What stands between two steps is
    ``c = gae_lambda * min(c_clip, ratio)``; with lambda 1 it is the paper's.

    Args:
        rewards: float32[T, B], as ``fold_cuts`` gives them.
        discounts: float32[T, B], as ``fold_cuts`` gives them.
        values: float32[T, B], under the weights that learn.
        bootstrap_value: float32[B], value of the observation after step T - 1.
        ratios: float32[T, B], probability of each action under the weights that learn over that
            under those that chose it; 0 where the mask is False, so that such steps give nothing.
        gae_lambda: 0.0 trusts the values, 1.0 the rewards.
        rho_clip: Largest ratio that a temporal difference is weighted with.
        c_clip: Largest ratio that what follows is weighted with.
        advantage_rho_clip: Largest ratio that an advantage is weighted with.
    """
    next_values = torch.cat([values[1:], bootstrap_value.unsqueeze(0)])
    errors = ratios.clamp(max=rho_clip) * (rewards + discounts * next_values - values)
    traces = discounts * gae_lambda * ratios.clamp(max=c_clip)
    corrections = n_step_returns(errors, traces, torch.zeros_like(bootstrap_value))
    following = torch.cat([corrections[1:], torch.zeros_like(bootstrap_value).unsqueeze(0)])
    ahead = rewards + discounts * (next_values + gae_lambda * following) - values
    return VTrace(
        targets=values + corrections,
        advantages=ratios.clamp(max=advantage_rho_clip) * ahead,
    )
