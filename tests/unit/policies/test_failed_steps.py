"""Failures cut a trajectory, and change nothing else of what its steps aim at."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from raygym.core import Float32Array, Rollout
from raygym.policies.returns import fold_cuts, generalised_advantages, n_step_returns, vtrace
from tests.support.cut_rollouts import pieces, random_rollout, without_mask

GAMMA = 0.9
SEEDS = range(20)

Target = Callable[[Rollout, Float32Array], Float32Array]


def folded(rollout: Rollout) -> tuple[Tensor, Tensor]:
    return fold_cuts(
        torch.from_numpy(rollout.rewards),
        torch.from_numpy(rollout.values),
        terminated=torch.from_numpy(rollout.terminated),
        truncated=torch.from_numpy(rollout.truncated),
        final_values=torch.from_numpy(rollout.final_values),
        mask=torch.from_numpy(rollout.mask),
        gamma=GAMMA,
    )


def returns(rollout: Rollout, bootstrap: Float32Array) -> Float32Array:
    return n_step_returns(*folded(rollout), torch.from_numpy(bootstrap)).numpy()


def advantages(rollout: Rollout, bootstrap: Float32Array, *, gae_lambda: float) -> Float32Array:
    return generalised_advantages(
        *folded(rollout),
        torch.from_numpy(rollout.values),
        torch.from_numpy(bootstrap),
        gae_lambda=gae_lambda,
    ).numpy()


def off_policy(
    rollout: Rollout, bootstrap: Float32Array, *, part: str, gae_lambda: float
) -> Float32Array:
    """V-trace, with ratios that depend on nothing but the log-probabilities."""
    ratios = torch.from_numpy(np.exp(-1.0 - rollout.log_probabilities))
    found = vtrace(
        *folded(rollout),
        torch.from_numpy(rollout.values),
        torch.from_numpy(bootstrap),
        torch.where(torch.from_numpy(rollout.mask), ratios, torch.zeros_like(ratios)),
        gae_lambda=gae_lambda,
    )
    return getattr(found, part).numpy()


TARGETS: dict[str, Target] = {
    "returns": returns,
    "GAE 0.5": functools.partial(advantages, gae_lambda=0.5),
    "GAE 0.95": functools.partial(advantages, gae_lambda=0.95),
    "GAE 1.0": functools.partial(advantages, gae_lambda=1.0),
    **{
        f"V-trace {part} {gae_lambda}": functools.partial(
            off_policy, part=part, gae_lambda=gae_lambda
        )
        for part in ("targets", "advantages")
        for gae_lambda in (0.95, 1.0)
    },
}


def check_as_if_cut(target: Target, rollout: Rollout, truth: Rollout) -> None:
    """Compares the targets of a rollout with those of ``truth``, cut at its failures."""
    random = np.random.default_rng(0)
    bootstrap = random.normal(size=rollout.mask.shape[1]).astype(np.float32)
    whole = target(rollout, bootstrap)
    for piece in pieces(truth, bootstrap):
        np.testing.assert_allclose(
            whole[piece.start : piece.stop, piece.column],
            target(piece.rollout, piece.bootstrap)[:, 0],
            rtol=1e-5,
            atol=1e-5,
        )


def drawn(seed: int) -> Rollout:
    return random_rollout(np.random.default_rng(seed), steps=12, columns=5, failed_share=0.3)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_those_of_the_same_trajectories_cut_at_the_failures(name: str):
    for seed in SEEDS:
        rollout = drawn(seed)
        assert not rollout.mask.all()
        check_as_if_cut(TARGETS[name], rollout, rollout)


@pytest.mark.parametrize("name", TARGETS)
def test_without_the_mask_the_same_comparison_fails(name: str):
    rollout = drawn(0)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_as_if_cut(TARGETS[name], without_mask(rollout), rollout)
