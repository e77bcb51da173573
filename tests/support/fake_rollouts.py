"""Rollouts made by hand, of a policy over two actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raygym.core import Rollout, Traces

WIDTH = 2
"""Numbers of one observation."""
STATE = 3
"""Numbers of each part of the recurrent state."""


def fake_rollout(
    columns: Sequence[str],
    *,
    first_step: int = 0,
    first_episodes: Sequence[int] | None = None,
    slots: Sequence[int] | None = None,
    version: int = 1,
    is_recurrent: bool = False,
    failed_reward: float = 1e6,
) -> Rollout:
    """Returns a Rollout whose step t of slot s saw 100 * s + first_step + t, and was paid t + 1.

    Args:
        columns: For each column, one letter a step: ``.`` goes on, ``T`` terminates, ``C`` is
            cut by a time limit, ``F`` fails.
        first_step: Added to the observations.
        first_episodes: Number of each column's first episode; None: 0.
        slots: Number of each column's slot; None counts from 0.
        version: Of the weights at step 0; one more with each step.
        is_recurrent: Whether there are states: (1, 1, 1) * (observation + 1) after a step.
        failed_reward: Of a step that failed.
    """
    steps = len(columns[0])
    shape = (steps, len(columns))
    letters = np.array([list(column) for column in columns]).T
    numbers = np.arange(len(columns)) if slots is None else np.asarray(slots)
    seen = (100 * numbers + first_step + np.arange(steps + 1)[:, None]).astype(np.float32)
    observations = np.repeat(seen[..., None], WIDTH, axis=-1)
    has_failed = letters == "F"
    ends = letters != "."
    before = np.cumsum(ends, axis=0) - ends
    extras: dict[str, Any] = {
        "action_dist_inputs": np.repeat(seen[:-1, :, None], 2, axis=-1) * 0.01
    }
    state: tuple[Any, ...] = ()
    if is_recurrent:
        after = np.repeat(seen[:-1, :, None] + 1, STATE, axis=-1)
        extras |= {"state_out_0": after, "state_out_1": -after}
        first = after[0] - 1 if first_step else np.zeros((len(columns), STATE), np.float32)
        state = (first, -first)
    rewards = np.repeat(np.arange(1.0, steps + 1)[:, None], len(columns), axis=1)
    return Rollout(
        observations=observations[:-1],
        actions=(seen[:-1] % 2).astype(np.int64),
        log_probabilities=np.full(shape, -0.5, np.float32),
        values=np.zeros(shape, np.float32),
        rewards=np.where(has_failed, failed_reward, rewards).astype(np.float32),
        terminated=letters == "T",
        truncated=(letters == "C") | has_failed,
        mask=~has_failed,
        last_observation=observations[-1],
        final_values=np.zeros(shape, np.float32),
        initial_state=state,
        weights_version=version,
        traces=Traces(
            outcomes=(2 * has_failed).astype(np.uint8),
            weights_versions=np.repeat(version + np.arange(steps)[:, None], len(columns), axis=1),
            lag_ms=np.full((*shape, 4), np.nan, np.float32),
            slots=numbers,
            episodes=before + np.asarray(first_episodes or [0] * len(columns)),
            remotes=np.full(shape, -1, np.int32),
            leases=np.full(shape, -1, np.int32),
        ),
        extras=extras,
    )
