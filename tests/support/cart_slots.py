"""CartPole for learners, small enough to be learned in seconds."""

from __future__ import annotations

import threading
from pathlib import Path

from raygym.environments.slots import make_slots
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import NetworkConfig
from raygym.training.learner_sources import LearnerSetup, SourceFactory, from_slots
from raygym.vector.slots import Ready, Slots

SLOTS = 8


def cart_slots(_rank: int) -> Slots:
    """Makes the slots of one learner."""
    return make_slots("CartPole-v1", SLOTS)


def slots_that_hang_once(flag: Path, rank: int) -> Slots:
    """Makes slots that never answer, for whoever comes first: learner 0's first life."""
    slots = cart_slots(rank)
    if rank == 0 and not flag.exists():
        flag.touch()
        slots.recv = _never  # type: ignore[method-assign]
    return slots


def _never(*, at_least: int = 1, timeout_s: float | None = None) -> Ready:
    threading.Event().wait()
    raise AssertionError("it ended")


def service_slots(_first: int, count: int) -> Slots:
    """Makes the slots of one actor of a service."""
    return make_slots("CartPole-v1", count)


def cart_setup(
    *, num_learners: int = 2, make_source: SourceFactory | None = None, seed: int = 1
) -> LearnerSetup:
    """Returns what learners of CartPole are made from."""
    return LearnerSetup(
        network=NetworkConfig(
            observation_shape=(4,), action_count=2, core="feedforward", hidden_size=64
        ),
        config=BatchedConfig(
            learning_rate=2.5e-3,
            anneal_steps=200_000,
            clip=0.2,
            epochs=4,
            entropy_weight=0.0,
            minibatch_steps=128,
            normalises_input=False,
            rollout_steps=64,
        ),
        make_source=make_source or from_slots(cart_slots),
        slots_per_learner=SLOTS,
        num_learners=num_learners,
        seed=seed,
    )
