from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from raygym.core import Rollout
from raygym.errors import SessionLost
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.inline_slots import InlineSlots
from tests.support.ledger_env import AnsweringPolicy, Ledger, LedgerEnv

SLOTS, STEPS = 3, 7


class BreakingEnv(LedgerEnv):
    """Breaks for good after so many steps, so that another must be made."""

    def step(self, action):
        if self._count == 10:
            raise ValueError("it broke")
        return super().step(action)


class LosingEnv(LedgerEnv):
    """Loses its session now and then and goes on."""

    def step(self, action):
        if self._count % 10 == 9:
            self._count += 1
            raise SessionLost("it was cut")
        return super().step(action)


def play(rollouts: int, env: type[LedgerEnv] = LedgerEnv) -> list[Rollout]:
    slots = InlineSlots(lambda slot: env(episode_steps=5 + slot), SLOTS)
    sampler = SlotSampler(slots, AnsweringPolicy(), rollout_steps=STEPS)
    found = [sampler.collect() for _ in range(rollouts)]
    sampler.close()
    assert None not in found
    return [one for one in found if one is not None]


def booked(rollouts: list[Rollout]) -> Ledger:
    ledger = Ledger()
    for rollout in rollouts:
        ledger.note(rollout)
    return ledger


def changed(rollout: Rollout, name: str, value: object, at: object) -> Rollout:
    array = np.array(getattr(rollout, name))
    array[at] = value
    return dataclasses.replace(rollout, **{name: array})


def test_books_of_sound_rollouts_balance():
    ledger = booked(play(5))
    assert ledger.steps == 5 * STEPS * SLOTS
    assert ledger.slot_steps == dict.fromkeys(range(SLOTS), 5 * STEPS)
    assert {slot: len(seen) for slot, seen in ledger.instances.items()} == {0: 1, 1: 1, 2: 1}
    assert ledger.failed == []
    assert set(ledger.outcomes.values()) == {0}


@pytest.mark.parametrize("env", [BreakingEnv, LosingEnv])
def test_books_balance_over_failures_and_tell_them(env: type[LedgerEnv]):
    ledger = booked(play(6, env))
    assert {slot for slot, _, _ in ledger.failed} == set(range(SLOTS))
    for slot, episode, outcome in ledger.failed:
        assert ledger.outcomes[slot, episode] == outcome != 0
    made = {len(seen) for seen in ledger.instances.values()}
    assert (made == {1}) == (env is LosingEnv)


def test_a_rollout_that_comes_twice_is_found():
    first, second = play(2)
    with pytest.raises(AssertionError, match="step 0 came where step 7 was due"):
        booked([first, first])
    assert booked([first, second])


def test_a_rollout_that_is_missing_is_found():
    first, _, third = play(3)
    with pytest.raises(AssertionError, match="step 14 came where step 7 was due"):
        booked([first, third])


def test_an_action_for_another_observation_is_found():
    (rollout,) = play(1)
    with pytest.raises(AssertionError, match="an action answered something else"):
        booked([changed(rollout, "rewards", 0.0, (2, 1))])


def test_a_failure_that_is_not_masked_is_found():
    rollout = next(one for one in play(6, BreakingEnv) if not one.mask.all())
    with pytest.raises(AssertionError, match="the mask and the outcomes disagree"):
        booked([dataclasses.replace(rollout, mask=np.ones_like(rollout.mask))])


def test_an_environment_of_another_slot_is_found():
    (rollout,) = play(1)
    mixed = np.array(rollout.observations)
    mixed[:, 1] = mixed[:, 0]
    with pytest.raises(AssertionError, match="another slot's environment"):
        booked([dataclasses.replace(rollout, observations=mixed)])


def test_an_episode_that_goes_on_after_its_end_is_found():
    (rollout,) = play(1)
    traces = rollout.traces
    assert traces is not None
    one = dataclasses.replace(traces, episodes=np.zeros_like(traces.episodes))
    with pytest.raises(AssertionError, match="episode 0 of"):
        booked([dataclasses.replace(rollout, traces=one)])
