"""Constants of the batched learner for environments that were tried out."""

from __future__ import annotations

from raygym.policies.batched import BatchedConfig

PONG_DETERMINISTIC = BatchedConfig(anneal_steps=1_400_000, final_entropy_weight=0.002)
"""Pong that does as it is told, for 32 slots in all and 16 filters: some 0.6 million steps to a
mean of 18."""

PONG_STICKY = BatchedConfig(
    learning_rate=7e-4,
    anneal_steps=4_000_000,
    final_entropy_weight=0.001,
    minibatch_steps=256,
)
"""Pong that repeats an action with a probability of 0.25 whatever it is told, for 64 slots in all
and 24 filters: what happened to work once does not work again, so steps are smaller, batches
larger and the network wider."""
