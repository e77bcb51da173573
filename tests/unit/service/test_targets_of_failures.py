"""From the environment to the targets: who knows what all is worth learns nothing from failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raygym.core import Rollout
from raygym.policies.returns import fold_cuts, generalised_advantages, n_step_returns
from raygym.service.rollouts import join_rollouts
from raygym.service.sampler import Sampler, SamplerConfig
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.inline_slots import InlineSlots
from tests.support.cut_rollouts import without_mask
from tests.support.faulty_env import Kind, question_of, quiz, value_of
from tests.support.quiz_learners import GAMMA, WAIT_S, KnowingPolicy

ROLLOUTS = 10
STEPS = 24
KINDS = ("plain", "adversarial", "raising")


def by_sampler(kind: Kind, *, is_picture: bool) -> Rollout:
    """Plays one environment in a thread; the rollouts stand side by side."""
    sampler = Sampler(
        slot=0,
        env_factory=lambda: quiz(kind, 7, is_picture=is_picture),
        policy=KnowingPolicy(),
        config=SamplerConfig(rollout_steps=STEPS, waits_for_learner=True),
    )
    sampler.start()
    taken: list[Rollout] = []
    while len(taken) < ROLLOUTS:
        some = sampler.take(timeout_s=WAIT_S)
        assert some, f"no rollout within {WAIT_S:g} s"
        taken += some
    assert sampler.stop(timeout_s=WAIT_S)
    return join_rollouts(taken)


def by_slot_sampler(kind: Kind, *, is_picture: bool) -> Rollout:
    """Plays as many environments side by side."""
    slots = InlineSlots(lambda slot: quiz(kind, slot, is_picture=is_picture), ROLLOUTS)
    sampler = SlotSampler(slots, KnowingPolicy(), rollout_steps=STEPS)
    rollout = sampler.collect(timeout_s=WAIT_S)
    sampler.close()
    assert rollout is not None
    return rollout


def check_targets(rollout: Rollout, mask: Any) -> None:
    """Where nothing failed, returns are the known values, and nothing was better or worse."""
    arrays = (rollout.terminated, rollout.truncated, rollout.final_values, rollout.mask)
    terminated, truncated, final_values, kept = (torch.from_numpy(one) for one in arrays)
    values = torch.from_numpy(rollout.values)
    rewards, discounts = fold_cuts(
        torch.from_numpy(rollout.rewards),
        values,
        terminated=terminated,
        truncated=truncated,
        final_values=final_values,
        mask=kept,
        gamma=GAMMA,
    )
    last = torch.from_numpy(value_of(question_of(rollout.last_observation), GAMMA))
    columns = [question_of(column) for column in np.moveaxis(rollout.observations, 1, 0)]
    known = value_of(np.stack(columns, axis=1), GAMMA)
    returns = n_step_returns(rewards, discounts, last).numpy()
    np.testing.assert_allclose(returns[mask], known[mask], atol=1e-5)
    advantages = generalised_advantages(rewards, discounts, values, last, gae_lambda=0.95)
    np.testing.assert_allclose(advantages.numpy()[mask], 0.0, atol=1e-5)


PLAYERS: dict[str, tuple[Callable[..., Rollout], bool]] = {
    "sampler": (by_sampler, True),
    "slot sampler, pictures": (by_slot_sampler, True),
    "slot sampler, vectors": (by_slot_sampler, False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("player", PLAYERS)
def test_planted_failures_leave_the_targets_of_all_other_steps_exact(player: str, kind: Kind):
    play, is_picture = PLAYERS[player]
    rollout = play(kind, is_picture=is_picture)
    assert 5 < (~rollout.mask).sum() < 50
    assert rollout.truncated[~rollout.mask].all()
    check_targets(rollout, rollout.mask)


@pytest.mark.parametrize("player", PLAYERS)
def test_without_the_mask_the_targets_are_wrong(player: str):
    play, is_picture = PLAYERS[player]
    rollout = play("adversarial", is_picture=is_picture)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_targets(without_mask(rollout), rollout.mask)
