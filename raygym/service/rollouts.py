"""Builds Rollouts step by step and joins them side by side. T is time, B the number of slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.core import Float32Array, Rollout, Traces, UInt8Array


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one slot, as a rollout keeps it."""

    observation: UInt8Array
    """uint8[H, W, C], what the action answered."""
    action: int
    log_probability: float
    value: float
    reward: float
    terminated: bool
    truncated: bool
    is_ok: bool
    """False where something failed, so that the step must not enter a loss."""
    final_value: float
    """Value of the observation that a truncated step ended on, else 0."""


class RolloutBuilder:
    """Collects T steps of one slot into memory of their own.

    Args:
        steps: T.
        initial_state: Recurrent state before the first step, each float32[1, ...]; copied.
        weights_version: Which weights act first.
    """

    def __init__(
        self, steps: int, initial_state: tuple[Float32Array, ...], weights_version: int
    ) -> None:
        self._length = steps
        self._initial_state = tuple(np.array(s) for s in initial_state)
        self._weights_version = weights_version
        self._steps: list[Step] = []
        self._observations: UInt8Array | None = None

    @property
    def is_full(self) -> bool:
        """Whether T steps are there."""
        return len(self._steps) == self._length

    def add(self, step: Step) -> None:
        """Adds a step; its observation is copied."""
        if self._observations is None:
            self._observations = np.empty(
                (self._length, 1, *step.observation.shape), dtype=np.uint8
            )
        self._observations[len(self._steps), 0] = step.observation
        self._steps.append(step)

    def finish(self, last_observation: UInt8Array) -> Rollout:
        """Returns the Rollout, with B = 1.

        Args:
            last_observation: uint8[H, W, C], what followed the last action; copied.
        """
        if self._observations is None or not self.is_full:
            raise ValueError(f"a rollout of {self._length} steps has only {len(self._steps)}")

        def floats(name: str) -> Float32Array:
            return np.array([[getattr(s, name)] for s in self._steps], dtype=np.float32)

        def flags(name: str) -> npt.NDArray[np.bool_]:
            return np.array([[getattr(s, name)] for s in self._steps], dtype=np.bool_)

        return Rollout(
            observations=self._observations,
            actions=np.array([[s.action] for s in self._steps], dtype=np.int64),
            log_probabilities=floats("log_probability"),
            values=floats("value"),
            rewards=floats("reward"),
            terminated=flags("terminated"),
            truncated=flags("truncated"),
            mask=flags("is_ok"),
            last_observation=np.array(last_observation, dtype=np.uint8)[None],
            final_values=floats("final_value"),
            initial_state=self._initial_state,
            weights_version=self._weights_version,
        )


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """Sets rollouts of the same T side by side, as [T, sum of B, ...].

    Its ``weights_version`` is the oldest of them. All have the same ``extras``, by name.
    """
    if len(rollouts) == 1:
        return rollouts[0]

    def side_by_side(name: str) -> Any:
        return np.concatenate([getattr(r, name) for r in rollouts], axis=1)

    time_major = (
        *("observations", "actions", "log_probabilities", "values", "rewards"),
        *("terminated", "truncated", "mask", "final_values"),
    )
    return Rollout(
        **{name: side_by_side(name) for name in time_major},
        last_observation=np.concatenate([r.last_observation for r in rollouts]),
        initial_state=tuple(
            np.concatenate(parts)
            for parts in zip(*(r.initial_state for r in rollouts), strict=True)
        ),
        weights_version=min(r.weights_version for r in rollouts),
        traces=_join_traces([r.traces for r in rollouts]),
        extras={
            name: np.concatenate([r.extras[name] for r in rollouts], axis=1)
            for name in rollouts[0].extras
        },
        final_observations=_join_final_observations(rollouts),
    )


def weights_lag(rollout: Rollout, version: int) -> float:
    """Returns how many versions older than ``version`` the weights were that chose, on average.

    Without traces, those of the first step count.
    """
    if rollout.traces is None:
        return float(version - rollout.weights_version)
    return float(version - rollout.traces.weights_versions.mean())


def _join_final_observations(rollouts: Sequence[Rollout]) -> npt.NDArray[Any] | None:
    """Returns None unless all kept them; else those of all, row by row of what is joined."""
    kept = [r.final_observations for r in rollouts]
    if any(one is None for one in kept):
        return None
    rows = np.concatenate([np.nonzero(r.is_cut)[0] for r in rollouts])
    # Rollouts stand side by side in their order, and each has its own in order already.
    order = np.argsort(rows, kind="stable")
    joined: npt.NDArray[Any] = np.concatenate([one for one in kept if one is not None])[order]
    return joined


def _join_traces(traces: Sequence[Traces | None]) -> Traces | None:
    """Returns None unless all are there; ids of the same name become one."""
    known = [trace for trace in traces if trace is not None]
    if len(known) < len(traces):
        return None

    def side_by_side(name: str) -> Any:
        return np.concatenate([getattr(trace, name) for trace in known], axis=1)

    remotes, remote_ids = _join_ids([(trace.remotes, trace.remote_ids) for trace in known])
    leases, lease_ids = _join_ids([(trace.leases, trace.lease_ids) for trace in known])
    return Traces(
        outcomes=side_by_side("outcomes"),
        weights_versions=side_by_side("weights_versions"),
        lag_ms=side_by_side("lag_ms"),
        slots=np.concatenate([trace.slots for trace in known]),
        episodes=side_by_side("episodes"),
        remotes=remotes,
        remote_ids=remote_ids,
        leases=leases,
        lease_ids=lease_ids,
    )


def _join_ids(
    parts: Sequence[tuple[npt.NDArray[np.int32], tuple[str, ...]]],
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Returns indices side by side into one tuple of ids; -1 stays -1."""
    ids = list(dict.fromkeys(name for _, names in parts for name in names))
    # The last entry is what -1 picks.
    places = [np.array([*(ids.index(n) for n in names), -1], np.int32) for _, names in parts]
    columns = [place[numbers] for place, (numbers, _) in zip(places, parts, strict=True)]
    return np.concatenate(columns, axis=1), tuple(ids)
