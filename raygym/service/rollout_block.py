"""Memory of one Rollout, which its columns fill each at its own pace. T is time, B the slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import LAGS, Acted, Float32Array, Rollout, Traces, UInt8Array
from raygym.errors import ConfigError

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
EmptyArray: TypeAlias = Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]]
"""Makes an array of a shape and dtype, its content undefined: ``numpy.empty``."""


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What came of one step of n slots."""

    rewards: npt.NDArray[np.floating[Any]]
    """[n], scaled already."""
    terminated: BoolArray
    truncated: BoolArray
    outcomes: UInt8Array
    """uint8[n]: index into ``OUTCOMES``."""
    final_values: Float32Array
    """float32[n]: value of the observation that a truncated step ended on, else 0."""
    lag_ms: Float32Array
    """float32[n, 4], as in ``Traces``."""
    remotes: npt.NDArray[np.int32]
    """int32[n]: which Remote, -1 for none."""
    leases: npt.NDArray[np.int32]
    """int32[n]: which lease, -1 for none."""

    def rows(self, rows: Int64Array) -> Stepped:
        """Returns some of the n."""
        return Stepped(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the numbers of a block's columns stand for."""

    first_slot: int = 0
    """The slot of column 0."""
    remote_ids: list[str] = field(default_factory=list)
    lease_ids: list[str] = field(default_factory=list)


def layout(space: gymnasium.Space[Any], what: str) -> tuple[npt.DTypeLike, tuple[int, ...]]:
    """Returns the dtype and the shape of one observation or action; Discrete is int64.

    Raises:
        ConfigError: It is no single array.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.int64, ()
    if space.shape is None or space.dtype is None:
        raise ConfigError(
            f"{what} space {space}: a rollout keeps single arrays; flatten it with a wrapper"
        )
    return space.dtype, space.shape


class RolloutBlock:
    """Arrays of a Rollout, preallocated; each column has its own next row.

    Args:
        steps: T.
        columns: B.
        observation_space: Of one slot.
        action_space: Of one slot.
        empty: Makes the array of the observations, [T + 1, B, ...] with the last ones.
    """

    def __init__(
        self,
        steps: int,
        columns: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        empty: EmptyArray = np.empty,
    ) -> None:
        shape = (steps, columns)
        dtype, one = layout(observation_space, "observation")
        # One array, so that both can be shared with another process at once.
        frames = empty((steps + 1, columns, *one), dtype)
        self._observations, self._last_observation = frames[:steps], frames[steps]
        dtype, one = layout(action_space, "action")
        self._actions = np.empty((*shape, *one), dtype)
        self._log_probabilities = np.empty(shape, np.float32)
        self._values = np.empty(shape, np.float32)
        self._rewards = np.empty(shape, np.float32)
        self._terminated = np.empty(shape, np.bool_)
        self._truncated = np.empty(shape, np.bool_)
        self._final_values = np.empty(shape, np.float32)
        self._outcomes = np.empty(shape, np.uint8)
        self._versions = np.empty(shape, np.int64)
        self._lag_ms = np.empty((*shape, len(LAGS)), np.float32)
        self._episodes = np.empty(shape, np.int64)
        self._remotes = np.empty(shape, np.int32)
        self._leases = np.empty(shape, np.int32)
        self._initial_state: tuple[Float32Array, ...] | None = None
        self._extras: dict[str, npt.NDArray[Any]] = {}
        self._final_observations: dict[tuple[int, int], npt.NDArray[Any]] = {}
        self.steps = steps
        self.rows = np.zeros(columns, np.int64)
        """int64[B]: steps that each column has; T where it is full."""

    @property
    def is_full(self) -> BoolArray:
        """bool[B]."""
        full: BoolArray = self.rows == self.steps
        return full

    def write_acted(
        self,
        columns: Int64Array,
        observations: npt.NDArray[Any],
        state: tuple[Float32Array, ...],
        acted: Acted,
        version: int,
        episodes: Int64Array,
    ) -> None:
        """Writes what some columns saw and chose, at their next rows.

        Args:
            columns: int64[n].
            observations: [n, ...].
            state: Before the choice, each [n, ...].
            acted: The choice.
            version: Which weights chose.
            episodes: int64[n].
        """
        rows = self.rows[columns]
        self._observations[rows, columns] = observations
        self._actions[rows, columns] = acted.actions
        self._log_probabilities[rows, columns] = acted.log_probabilities
        self._values[rows, columns] = acted.values
        self._versions[rows, columns] = version
        self._episodes[rows, columns] = episodes
        self._write_initial_state(columns, rows == 0, state)
        for name, values in acted.extras.items():
            if name not in self._extras:
                shape = (self.steps, len(self.rows), *values.shape[1:])
                self._extras[name] = np.zeros(shape, values.dtype)
            self._extras[name][rows, columns] = values

    def write_stepped(
        self, columns: Int64Array, stepped: Stepped, observations: npt.NDArray[Any]
    ) -> None:
        """Writes what came of those choices, and moves the columns on by one row.

        Args:
            columns: int64[n].
            stepped: What came of them, n rows.
            observations: [B, ...], what followed, by column; read where a column is full now
                or its episode was cut.
        """
        rows = self.rows[columns]
        self._rewards[rows, columns] = stepped.rewards
        self._terminated[rows, columns] = stepped.terminated
        self._truncated[rows, columns] = stepped.truncated
        self._outcomes[rows, columns] = stepped.outcomes
        self._final_values[rows, columns] = stepped.final_values
        self._lag_ms[rows, columns] = stepped.lag_ms
        self._remotes[rows, columns] = stepped.remotes
        self._leases[rows, columns] = stepped.leases
        is_cut = stepped.truncated & ~stepped.terminated & (stepped.outcomes == 0)
        for row, column in zip(rows[is_cut], columns[is_cut], strict=True):
            self._final_observations[int(row), int(column)] = np.array(observations[column])
        self.rows[columns] += 1
        is_last = self.rows[columns] == self.steps
        if is_last.any():
            full = columns[is_last]
            self._last_observation[full] = observations[full]

    def rollout(self, names: Names) -> Rollout:
        """Returns all columns without a copy; the block must not be written to after that."""
        return self._make(slice(None), names)

    def take(self, columns: Int64Array, names: Names) -> Rollout:
        """Returns a copy of some columns, which are free after it."""
        taken = self._make(columns, names)
        self.rows[columns] = 0
        free = set(columns.tolist())
        self._final_observations = {
            place: kept for place, kept in self._final_observations.items() if place[1] not in free
        }
        return taken

    def _make(self, columns: Int64Array | slice, names: Names) -> Rollout:
        def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            # `take` gives memory in C order, which crosses to another process as it is.
            return array if isinstance(columns, slice) else array.take(columns, axis=1)

        versions = cut(self._versions)
        remotes, remote_ids = _compact(cut(self._remotes), names.remote_ids)
        leases, lease_ids = _compact(cut(self._leases), names.lease_ids)
        outcomes = cut(self._outcomes)
        return Rollout(
            observations=cut(self._observations),
            actions=cut(self._actions),
            log_probabilities=cut(self._log_probabilities),
            values=cut(self._values),
            rewards=cut(self._rewards),
            terminated=cut(self._terminated),
            truncated=cut(self._truncated),
            mask=outcomes == 0,
            last_observation=self._last_observation[columns],
            final_values=cut(self._final_values),
            initial_state=tuple(part[columns] for part in self._initial_state or ()),
            weights_version=int(versions.min()),
            traces=Traces(
                outcomes=outcomes,
                weights_versions=versions,
                lag_ms=cut(self._lag_ms),
                slots=np.arange(len(self.rows))[columns] + names.first_slot,
                episodes=cut(self._episodes),
                remotes=remotes,
                remote_ids=remote_ids,
                leases=leases,
                lease_ids=lease_ids,
            ),
            extras={name: cut(values) for name, values in self._extras.items()},
            final_observations=self._cut_observations(columns),
        )

    def _cut_observations(self, columns: Int64Array | slice) -> npt.NDArray[Any]:
        """Returns what the episodes that were cut in some columns ended on, row by row."""
        order = {int(c): i for i, c in enumerate(np.arange(len(self.rows))[columns])}
        places = sorted(
            (place for place in self._final_observations if place[1] in order),
            key=lambda place: (place[0], order[place[1]]),
        )
        shape = (len(places), *self._last_observation.shape[1:])
        kept = np.empty(shape, self._last_observation.dtype)
        for index, place in enumerate(places):
            kept[index] = self._final_observations[place]
        return kept

    def _write_initial_state(
        self, columns: Int64Array, is_first_row: BoolArray, state: tuple[Float32Array, ...]
    ) -> None:
        if self._initial_state is None:
            self._initial_state = tuple(
                np.zeros((len(self.rows), *part.shape[1:]), part.dtype) for part in state
            )
        if state and is_first_row.any():
            for kept, part in zip(self._initial_state, state, strict=True):
                kept[columns[is_first_row]] = part[is_first_row]


def _compact(
    numbers: npt.NDArray[np.int32], names: Sequence[str]
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Renumbers what takes part from 0, and returns its names; -1 stays -1."""
    if not names:
        return numbers, ()
    present, where = np.unique(numbers, return_inverse=True)
    offset = int(present[0] == -1)
    compact = where.reshape(numbers.shape).astype(np.int32) - np.int32(offset)
    return compact, tuple(names[number] for number in present[offset:])


def as_acted(answer: Acted | tuple[Any, ...]) -> Acted:
    """Returns a policy's answer as an Acted; a plain tuple of the first four will do."""
    return answer if isinstance(answer, Acted) else Acted(*answer)


def lags(info: Mapping[str, Any]) -> list[float]:
    """Returns the lags in an info in the order of ``LAGS``; NaN where it has none."""
    found = (info.get(name) for name in LAGS)
    return [float("nan") if lag is None else float(lag) for lag in found]
