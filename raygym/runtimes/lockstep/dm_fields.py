"""Spaces as numbered dm_env_rpc actions and observations, and the checks of what comes in.

One leaf space is one field. A space that is a single leaf is named ``action`` or
``observation``; the leaves of a Dict or Tuple have dotted names: ``observation.camera.left``,
``action.0``. Fields keep their uid for the life of a world.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.wire.dm_nesting import leaf_names
from raygym.wire.dm_specs import spec_to_message, value_for_space
from raygym.wire.dm_tensors import fill_payload, tensor_to_message
from raygym.wire.leaves import explain, leaf_spaces
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb

REWARD_UID = 2
RENDERING_UID = 3
_RESERVED = (REWARD_UID, RENDERING_UID)
_INFINITIES: dict[int, type[np.floating[Any]]] = {dm.FLOAT: np.float32, dm.DOUBLE: np.float64}

LeafMember = npt.NDArray[Any] | np.generic | str
"""A member of a leaf space, as the space itself would give it."""


class RequestRefused(RemoteProtocolError):
    """A request that did nothing; its sender gets the reason and the stream lives on.

    Its field ``code`` is a ``raygym.v1.Error.Code``, which has the numbers of gRPC.
    """


def refuse(code: int, message: str) -> RequestRefused:
    """Returns the error to raise."""
    return RequestRefused(message, code=code)


@dataclass(frozen=True)
class Moment:
    """What a world showed after a reset or a step."""

    state: dm.EnvironmentStateType
    """``RUNNING``, ``TERMINATED`` or ``INTERRUPTED``."""
    observation: Sequence[LeafMember]
    """The leaves of the observation space, in its order."""
    reward: float = 0.0


@dataclass(frozen=True)
class Field:
    """One leaf space under a uid."""

    uid: int
    space: gymnasium.Space[Any]
    """The environment's own."""
    shown: gymnasium.Space[Any]
    """As told to the peer."""
    spec: dm.TensorSpec
    """Of ``shown``."""
    shift: npt.NDArray[Any] | int
    """What lies between the numbers of both: the environment's are greater by it."""

    def read(self, tensor: dm.Tensor) -> LeafMember:
        """Returns the member of the space that a peer sent.

        Raises:
            RequestRefused: Its dtype, shape or values are not those of the space.
        """
        where = f"action {self.spec.name!r} (uid {self.uid})"
        try:
            sent = value_for_space(self.shown, tensor)
        except RemoteProtocolError as error:
            raise refuse(pb.Error.INVALID_ARGUMENT, f"{where}: {error.message}") from error
        complaint = explain(self.shown, sent, where)
        if complaint is not None:
            raise refuse(pb.Error.INVALID_ARGUMENT, complaint)
        member: LeafMember = sent + self.shift if self._is_shifted else sent
        return member

    def neutral(self) -> LeafMember:
        """Returns what stands for an action that was not sent: zero, or the nearest to it."""
        space = self.space
        if isinstance(space, spaces.Text):
            return space.character_list[0] * space.min_length if space.min_length else ""
        if isinstance(space, spaces.Discrete):
            return np.asarray(space.start, space.dtype)[()]
        if isinstance(space, spaces.MultiDiscrete):
            return np.array(space.start, space.dtype)
        if isinstance(space, spaces.Box):
            return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        return np.zeros(space.shape or (), space.dtype)

    def write(self, member: LeafMember) -> dm.Tensor:
        """Returns a member of the space as the peer is to see it."""
        if self._is_shifted:
            return tensor_to_message(np.asarray(member) - self.shift)
        return tensor_to_message(member)

    @property
    def _is_shifted(self) -> bool:
        return self.shown is not self.space


class Fields:
    """All actions and observations of a world, as one peer sees them.

    Args:
        action_space: Of one environment.
        observation_space: Of one environment.
        picture_shape: Of what ``render`` gives; None if it gives nothing.
        shifts_starts: Shows every Discrete as counting from 0, for peers that know no other.

    Raises:
        ConfigError: A part of a space cannot be said in dm_env_rpc.
    """

    def __init__(
        self,
        action_space: gymnasium.Space[Any],
        observation_space: gymnasium.Space[Any],
        picture_shape: tuple[int, ...] | None,
        *,
        shifts_starts: bool,
    ) -> None:
        self._actions = _fields("action", action_space, shifts_starts)
        self._observations = _fields("observation", observation_space, shifts_starts, _RESERVED)
        self._specs = dm.ActionObservationSpecs()
        for field in self._actions:
            self._specs.actions[field.uid].CopyFrom(field.spec)
        for field in self._observations:
            self._specs.observations[field.uid].CopyFrom(field.spec)
        self._specs.observations[REWARD_UID].CopyFrom(dm.TensorSpec(name="reward", dtype=dm.FLOAT))
        if picture_shape is not None:
            picture = spaces.Box(0, 255, picture_shape, np.uint8)
            self._specs.observations[RENDERING_UID].CopyFrom(spec_to_message("rendering", picture))

    @property
    def specs(self) -> dm.ActionObservationSpecs:
        """The same message every time; clients compare it."""
        return self._specs

    def check_requested(self, uids: Iterable[int]) -> set[int]:
        """Returns the uids without repetitions.

        Raises:
            RequestRefused: There is no observation with one of them.
        """
        wanted = set(uids)
        unknown = sorted(wanted - set(self._specs.observations))
        if unknown:
            raise refuse(
                pb.Error.INVALID_ARGUMENT,
                f"no observation has uid {unknown[0]}; "
                f"there are {_names(self._specs.observations)}",
            )
        return wanted

    def read_actions(self, actions: Mapping[int, dm.Tensor]) -> list[LeafMember]:
        """Returns a member for every leaf of the action space, a neutral one where none came.

        Raises:
            RequestRefused: A uid is unknown, or a tensor does not fit its space.
        """
        unknown = sorted(set(actions) - {field.uid for field in self._actions})
        if unknown:
            raise refuse(
                pb.Error.INVALID_ARGUMENT,
                f"no action has uid {unknown[0]}; there are {_names(self._specs.actions)}",
            )
        return [
            field.read(actions[field.uid]) if field.uid in actions else field.neutral()
            for field in self._actions
        ]

    def write_observations(
        self, moment: Moment, wanted: set[int], picture: UInt8Array | None
    ) -> dict[int, dm.Tensor]:
        """Returns the observations that a peer asked for, by uid."""
        tensors = {
            field.uid: field.write(member)
            for field, member in zip(self._observations, moment.observation, strict=True)
            if field.uid in wanted
        }
        if REWARD_UID in wanted:
            tensors[REWARD_UID] = tensor_to_message(np.asarray(moment.reward, np.float32))
        if RENDERING_UID in wanted and picture is not None:
            tensors[RENDERING_UID] = tensor_to_message(picture)
        return tensors


def _fields(
    root: str,
    space: gymnasium.Space[Any],
    shifts_starts: bool,
    reserved: tuple[int, ...] = (),
) -> list[Field]:
    uids = (uid for uid in itertools.count(1) if uid not in reserved)
    names = leaf_names(root, space)
    return [
        _field(next(uids), name, leaf, shifts_starts)
        for name, leaf in zip(names, leaf_spaces(space), strict=True)
    ]


def _field(uid: int, name: str, leaf: gymnasium.Space[Any], shifts_starts: bool) -> Field:
    shown, shift = _from_zero(leaf) if shifts_starts else (leaf, 0)
    spec = spec_to_message(name, shown)
    infinity = _INFINITIES.get(spec.dtype)
    for side, bound in (("min", -np.inf), ("max", np.inf)):
        # remote-gym's client takes no spec without bounds.
        if infinity is not None and not spec.HasField(side):
            fill_payload(getattr(spec, side), np.array([bound], infinity))
    return Field(uid=uid, space=leaf, shown=shown, spec=spec, shift=shift)


def _from_zero(
    leaf: gymnasium.Space[Any],
) -> tuple[gymnasium.Space[Any], npt.NDArray[Any] | int]:
    dtype: Any = leaf.dtype
    if isinstance(leaf, spaces.Discrete) and leaf.start:
        return spaces.Discrete(int(leaf.n), dtype=dtype.type), int(leaf.start)
    if isinstance(leaf, spaces.MultiDiscrete) and np.any(leaf.start):
        return spaces.MultiDiscrete(leaf.nvec, dtype=dtype.type), np.array(leaf.start)
    return leaf, 0


def _names(specs: Mapping[int, dm.TensorSpec]) -> str:
    return ", ".join(f"{uid} {specs[uid].name!r}" for uid in sorted(specs)) or "none"
