"""Rollouts with planted failures, and the same ones cut there: what the maths must agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raygym.core import Float32Array, Rollout

TIME_MAJOR = (
    *("observations", "actions", "log_probabilities", "values", "rewards"),
    *("terminated", "truncated", "mask", "final_values"),
)


@dataclass(frozen=True)
class Piece:
    """Steps ``start`` to ``stop`` of one column, between two failures."""

    start: int
    stop: int
    column: int
    rollout: Rollout
    """[stop - start, 1, ...]; nothing in it failed."""
    bootstrap: Float32Array
    """float32[1]: the value at the cut, or that of the rollout's end."""


def pieces(rollout: Rollout, bootstrap: Float32Array) -> Iterator[Piece]:
    """Cuts a rollout at its failures: as if an actor had stopped there, with a bootstrap.

    Args:
        rollout: T steps of B slots.
        bootstrap: float32[B], value of what followed step T - 1.
    """
    steps, columns = rollout.mask.shape
    for column in range(columns):
        start = 0
        for stop in range(steps + 1):
            is_end = stop == steps
            if not (is_end or not rollout.mask[stop, column]):
                continue
            if start < stop:
                after = bootstrap[column] if is_end else rollout.values[stop, column]
                yield Piece(
                    start=start,
                    stop=stop,
                    column=column,
                    rollout=part(rollout, start, stop, column),
                    bootstrap=np.array([after], np.float32),
                )
            start = stop + 1


def part(rollout: Rollout, start: int, stop: int, column: int) -> Rollout:
    """Returns steps ``start`` to ``stop`` of one column."""
    place = (slice(start, stop), slice(column, column + 1))
    return dataclasses.replace(
        rollout, **{name: getattr(rollout, name)[place] for name in TIME_MAJOR}
    )


def without_mask(rollout: Rollout) -> Rollout:
    """Returns a rollout that owns to no failure, as if nobody had thought of masks."""
    traces = rollout.traces
    if traces is not None:
        traces = dataclasses.replace(traces, outcomes=np.zeros_like(traces.outcomes))
    return dataclasses.replace(rollout, mask=np.ones_like(rollout.mask), traces=traces)


def random_rollout(
    random: np.random.Generator, *, steps: int, columns: int, failed_share: float
) -> Rollout:
    """Draws a rollout in which anything ends anywhere; a step that failed holds rubbish."""
    shape = (steps, columns)
    failed = random.random(shape) < failed_share
    ends = random.random(shape) < 0.2
    is_cut = random.random(shape) < 0.5

    def numbers() -> Float32Array:
        return random.normal(size=shape).astype(np.float32)

    return Rollout(
        observations=np.zeros((*shape, 1), np.uint8),
        actions=random.integers(3, size=shape),
        log_probabilities=-np.abs(numbers()),
        values=numbers(),
        rewards=np.where(failed, 1e3 * numbers(), numbers()).astype(np.float32),
        terminated=_flags(ends & ~is_cut & ~failed),
        truncated=_flags((ends & is_cut) | failed),
        mask=_flags(~failed),
        last_observation=np.zeros((columns, 1), np.uint8),
        final_values=np.where(failed, 1e3, numbers()).astype(np.float32),
        initial_state=(),
        weights_version=0,
    )


def _flags(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(values, dtype=np.bool_)
