from __future__ import annotations

import numpy as np
import pytest
import torch

from raygym.policies.returns import fold_cuts, generalised_advantages, n_step_returns, vtrace

GAMMA = 0.5


def column(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def flags(*at: int, steps: int = 3) -> torch.Tensor:
    return torch.tensor([[t in at] for t in range(steps)])


def fold(
    rewards: torch.Tensor,
    values: torch.Tensor,
    *,
    terminated: tuple[int, ...] = (),
    truncated: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
    final_values: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    steps = len(rewards)
    return fold_cuts(
        rewards,
        values,
        terminated=flags(*terminated, steps=steps),
        truncated=flags(*truncated, steps=steps),
        final_values=torch.zeros_like(values) if final_values is None else final_values,
        mask=~flags(*failed, steps=steps),
        gamma=GAMMA,
    )


def test_returns_of_an_uncut_rollout_are_discounted_sums_with_the_bootstrap_value():
    rewards, discounts = fold(column(1, 2, 3), column(0, 0, 0))
    returns = n_step_returns(rewards, discounts, torch.tensor([8.0]))
    # 3 + 8/2 = 7; 2 + 7/2 = 5.5; 1 + 5.5/2 = 3.75
    assert returns.squeeze(1).tolist() == [3.75, 5.5, 7.0]


def test_nothing_of_the_next_episode_counts_before_a_terminated_step():
    rewards, discounts = fold(column(1, 2, 100), column(9, 9, 9), terminated=(1,))
    returns = n_step_returns(rewards, discounts, torch.tensor([50.0]))
    assert returns.squeeze(1).tolist() == [2.0, 2.0, 125.0]


def test_a_truncated_step_bootstraps_from_the_value_of_its_final_observation():
    rewards, discounts = fold(
        column(1, 2, 100), column(9, 9, 9), truncated=(1,), final_values=column(7, 6, 7)
    )
    returns = n_step_returns(rewards, discounts, torch.tensor([50.0]))
    # 2 + 6/2 = 5; 1 + 5/2 = 3.5
    assert returns.squeeze(1).tolist() == [3.5, 5.0, 125.0]


def test_a_step_both_terminated_and_truncated_counts_as_terminated():
    rewards, discounts = fold(
        column(1), column(9), terminated=(0,), truncated=(0,), final_values=column(6)
    )
    assert n_step_returns(rewards, discounts, torch.tensor([50.0])).item() == 1.0


def test_the_step_before_a_failure_bootstraps_from_the_value_at_the_cut_and_never_from_zero():
    rewards, discounts = fold(column(1, 2, 100), column(3, 4, 6), truncated=(2,), failed=(2,))
    returns = n_step_returns(rewards, discounts, torch.tensor([50.0]))
    # step 1: 2 + 6/2 = 5; step 0: 1 + 5/2 = 3.5; neither the failed step's reward nor
    # the bootstrap value behind it is seen
    assert returns.squeeze(1).tolist()[:2] == [3.5, 5.0]


def test_a_failure_right_after_an_end_changes_nothing_before_that_end():
    rewards, discounts = fold(column(1, 2, 100), column(3, 4, 6), terminated=(1,), failed=(2,))
    returns = n_step_returns(rewards, discounts, torch.tensor([50.0]))
    assert returns.squeeze(1).tolist()[:2] == [2.0, 2.0]


def test_rewards_of_failed_steps_are_dropped():
    rewards, discounts = fold(column(1, 2, 3), column(0, 0, 0), failed=(0, 1, 2))
    assert rewards.abs().sum() == 0
    assert discounts.abs().sum() == 0


def test_slots_do_not_mix():
    rewards = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    folded, discounts = fold_cuts(
        rewards,
        torch.zeros(2, 2),
        terminated=torch.tensor([[True, False], [False, False]]),
        truncated=torch.zeros(2, 2, dtype=torch.bool),
        final_values=torch.zeros(2, 2),
        mask=torch.ones(2, 2, dtype=torch.bool),
        gamma=GAMMA,
    )
    returns = n_step_returns(folded, discounts, torch.tensor([4.0, 8.0]))
    assert returns.tolist() == [[1.0, 22.0], [4.0, 24.0]]


def test_advantages_with_lambda_one_are_returns_minus_values():
    values = column(0.5, -1, 2)
    rewards, discounts = fold(column(1, 2, 3), values, truncated=(1,), final_values=column(0, 4, 0))
    bootstrap = torch.tensor([8.0])
    advantages = generalised_advantages(rewards, discounts, values, bootstrap, gae_lambda=1.0)
    returns = n_step_returns(rewards, discounts, bootstrap)
    assert torch.allclose(advantages, returns - values)


def test_advantages_with_lambda_zero_are_one_step_errors():
    values = column(1, 2, 3)
    rewards, discounts = fold(column(1, 1, 1), values)
    advantages = generalised_advantages(
        rewards, discounts, values, torch.tensor([4.0]), gae_lambda=0.0
    )
    # 1 + 2/2 - 1; 1 + 3/2 - 2; 1 + 4/2 - 3
    assert advantages.squeeze(1).tolist() == [1.0, 0.5, 0.0]


def test_advantages_with_lambda_one_half_match_a_hand_computed_case():
    values = column(1, 2, 3)
    rewards, discounts = fold(column(1, 1, 1), values)
    advantages = generalised_advantages(
        rewards, discounts, values, torch.tensor([4.0]), gae_lambda=0.5
    )
    # factors of gamma * lambda = 1/4: 0; 0.5 + 0/4; 1 + 0.5/4
    assert advantages.squeeze(1).tolist() == [1.125, 0.5, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_returns_agree_with_a_plain_loop_over_each_step(seed: int):
    random = np.random.default_rng(seed)
    steps = 12
    rewards, values, final_values = random.normal(size=(3, steps)).astype(np.float32)
    ends = random.choice(["none", "none", "none", "end", "cut", "failed"], size=steps)
    bootstrap = 1.7

    def expected(t: int) -> float:
        if ends[t] == "end":
            return float(rewards[t])
        if ends[t] == "cut":
            return float(rewards[t] + GAMMA * final_values[t])
        if t + 1 == steps:
            return float(rewards[t] + GAMMA * bootstrap)
        if ends[t + 1] == "failed":
            return float(rewards[t] + GAMMA * values[t + 1])
        return float(rewards[t] + GAMMA * expected(t + 1))

    folded, discounts = fold(
        column(*rewards),
        column(*values),
        terminated=tuple(np.flatnonzero(ends == "end")),
        truncated=tuple(np.flatnonzero((ends == "cut") | (ends == "failed"))),
        failed=tuple(np.flatnonzero(ends == "failed")),
        final_values=column(*final_values),
    )
    returns = n_step_returns(folded, discounts, torch.tensor([bootstrap])).squeeze(1)
    for t in range(steps):
        if ends[t] != "failed":
            assert returns[t].item() == pytest.approx(expected(t), abs=1e-5)


def random_case(seed: int, steps: int = 9, batch: int = 3) -> dict[str, torch.Tensor]:
    """A rollout with every kind of end in it, folded; ``ratios`` are 0 where it failed."""
    draw = torch.Generator().manual_seed(seed)
    shape = (steps, batch)
    ends = torch.randint(0, 8, shape, generator=draw)
    mask = ends != 2
    rewards, values, final_values = torch.randn(3, *shape, generator=draw)
    ratios = torch.randn(shape, generator=draw).exp()
    folded, discounts = fold_cuts(
        rewards,
        values,
        terminated=ends == 0,
        truncated=(ends == 1) | ~mask,
        final_values=final_values,
        mask=mask,
        gamma=0.9,
    )
    return {
        "rewards": folded,
        "discounts": discounts,
        "values": values,
        "bootstrap_value": torch.randn(batch, generator=draw),
        "ratios": torch.where(mask, ratios, 0.0),
        "mask": mask,
    }


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 1.0])
def test_vtrace_on_policy_gives_generalised_advantages(seed: int, gae_lambda: float):
    case = random_case(seed)
    mask = case.pop("mask")
    case["ratios"] = mask.float()
    targets, advantages = vtrace(**case, gae_lambda=gae_lambda)
    case.pop("ratios")
    expected = generalised_advantages(**case, gae_lambda=gae_lambda)
    assert torch.allclose(advantages[mask], expected[mask], atol=1e-5)
    assert torch.allclose(targets[mask], (expected + case["values"])[mask], atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("rho_clip", "c_clip"), [(1.0, 1.0), (2.0, 0.7), (0.5, 1.5)])
def test_vtrace_agrees_with_the_sum_in_the_paper(seed: int, rho_clip: float, c_clip: float):
    case = random_case(seed)
    case.pop("mask")
    targets, advantages = vtrace(
        **case, rho_clip=rho_clip, c_clip=c_clip, advantage_rho_clip=rho_clip
    )
    rewards, discounts, values = case["rewards"], case["discounts"], case["values"]
    following = torch.cat([values[1:], case["bootstrap_value"][None]])
    steps, batch = rewards.shape
    for b in range(batch):
        expected = [0.0] * (steps + 1)
        expected[steps] = float(case["bootstrap_value"][b])
        for s in range(steps):
            total, product = float(values[s, b]), 1.0
            for t in range(s, steps):
                ratio = float(case["ratios"][t, b])
                error = float(rewards[t, b] + discounts[t, b] * following[t, b] - values[t, b])
                total += product * min(rho_clip, ratio) * error
                product *= float(discounts[t, b]) * min(c_clip, ratio)
            expected[s] = total
        for s in range(steps):
            ahead = rewards[s, b] + discounts[s, b] * expected[s + 1] - values[s, b]
            weight = min(rho_clip, float(case["ratios"][s, b]))
            assert targets[s, b].item() == pytest.approx(expected[s], abs=1e-4)
            assert advantages[s, b].item() == pytest.approx(weight * float(ahead), abs=1e-4)


def test_a_step_that_failed_gives_nothing_to_vtrace_and_takes_nothing():
    case = random_case(3)
    mask = case.pop("mask")
    assert not mask.all()
    targets, advantages = vtrace(**case, gae_lambda=0.95)
    assert (advantages[~mask] == 0).all()
    assert torch.equal(targets[~mask], case["values"][~mask])
    first_failed = int(torch.nonzero(~mask[:, 0])[0])
    case["rewards"][first_failed + 1 :] += 100.0
    case["ratios"][first_failed + 1 :] *= 0.5
    after, _ = vtrace(**case, gae_lambda=0.95)
    assert torch.equal(after[: first_failed + 1, 0], targets[: first_failed + 1, 0])
