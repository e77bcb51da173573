"""One conversation of raygym.v1: requests, answers, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, EncodeError

from raygym.core import UInt8Array
from raygym.errors import ConfigError, RemoteProtocolError
from raygym.machine import machine_id
from raygym.remote_env.rpc.answers import exception_of
from raygym.remote_env.rpc.channel import RpcChannel
from raygym.remote_env.rpc.shared_memory import map_memory
from raygym.wire.leaves import (
    LeafValue,
    array_from_message,
    leaf_spaces,
    leaves_from_messages,
    leaves_to_messages,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_from_message
from raygym.wire.values import map_from_message, map_to_message, value_to_message

VERSION = 1
"""Of the protocol."""

_FLOAT64 = np.dtype("<f8")
_OUTCOMES = ("env_failure", "infra_failure", "timeout")


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """What to play, and how."""

    env_id: str = ""
    """One of the server's ids; empty: the only one."""
    count: int = 1
    """How many environments, indexed from 0."""
    autoreset: int = pb.DISABLED
    """One of ``pb.Autoreset``."""
    render_mode: str | None = None
    """Of the environment at the far end."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For the environment's factory."""
    picture: pb.Picture | None = None
    """What becomes of observations that are pictures."""
    frame_skip: int = 1
    """Frames of one step."""
    wants_shared_memory: bool = True
    """Whether observations may come through memory, where both ends share a machine."""

    def message(self) -> pb.Make:
        """Returns the request."""
        return pb.Make(
            env_id=self.env_id,
            count=self.count,
            autoreset=self.autoreset,  # type: ignore[arg-type]  # an enum's number
            render_mode=self.render_mode or "",
            kwargs=map_to_message(self.env_kwargs),
            picture=self.picture,
            frame_skip=self.frame_skip,
            wants_shared_memory=self.wants_shared_memory,
        )


@dataclass(slots=True)
class Rows:
    """What a reset or step gave, one row for each environment that was asked for."""

    observations: list[LeafValue]
    """Leaves, stacked; views that hold until the next request if ``is_borrowed``."""
    is_borrowed: bool
    """Whether observations lie in shared memory."""
    rewards: npt.NDArray[np.float64]
    """float64[N], read-only."""
    terminated: npt.NDArray[np.bool_]
    """bool[N]."""
    truncated: npt.NDArray[np.bool_]
    """bool[N]."""
    infos: Sequence[pb.Value]
    """N maps; none if all are empty."""
    finals: Sequence[pb.Final]
    """Last observations of episodes that ended and began anew in this step."""
    failures: Sequence[pb.Failure]
    """Environments that broke."""


class LockstepSession:
    """One conversation; one request is under way at a time.

    Args:
        channel: Closed with the session.
        name: Of the server, for messages.
        directory: That of the unix socket by which the server was reached, if it was.
    """

    def __init__(self, channel: RpcChannel, *, name: str, directory: Path | None = None) -> None:
        self.name = name
        self._directory = directory
        self.is_closed = False
        """Whether it is over, for whatever reason."""
        self._channel = channel
        self._id = 0
        self._memory: memoryview | None = None
        self._count = 0
        self.observation_space: gymnasium.Space[Any]
        self.action_space: gymnasium.Space[Any]
        self.metadata: dict[str, Any] = {}

    @property
    def is_sharing_memory(self) -> bool:
        """Whether the server may put observations into memory that this end maps."""
        return self._memory is not None

    def hello(self, *, client_id: str = "", timeout_s: float) -> pb.Welcome:
        """Says Hello.

        Raises:
            RemoteError, ProtocolError: The server refuses, or is gone.
        """
        hello = pb.Hello(version=VERSION, client_id=client_id, machine=machine_id())
        welcome = self._ask(pb.Request(hello=hello), timeout_s, "welcome").welcome
        if welcome.version != VERSION:
            self.close()
            raise RemoteProtocolError(
                f"{self.name} speaks version {welcome.version} of raygym.v1, this client {VERSION}"
            )
        return welcome

    def make(self, options: MakeOptions, *, timeout_s: float) -> None:
        """Makes the environments; spaces and metadata are attributes then.

        Raises:
            ConfigError: The server knows no such environment, or refuses an option.
            RemoteEnvError: The environment's factory raised.
            OSError: The shared memory cannot be mapped; begin anew without it.
            RemoteError, ProtocolError: The server refuses, or is gone.
        """
        request = pb.Request(make=self._encoded(options))
        made = self._ask(request, timeout_s, "made").made
        try:
            self.observation_space = space_from_message(made.observation_space)
            self.action_space = space_from_message(made.action_space)
            self.metadata = map_from_message(made.metadata)
            if made.shared_memory:
                self._memory = map_memory(
                    made.shared_memory, made.shared_memory_bytes, self._directory
                )
        except BaseException:
            self.close()
            raise
        self._count = options.count
        self._leaf_spaces = leaf_spaces(self.observation_space)

    def reset(
        self,
        *,
        envs: Sequence[int] = (),
        seeds: Sequence[int | None] = (),
        options: Mapping[str, Any] | None = None,
        timeout_s: float,
    ) -> Rows:
        """Begins episodes.

        Args:
            envs: Indices; none: all.
            seeds: One for each of them, None for no seed; or none at all.
            options: For each of them.
            timeout_s: Longest wait.

        Raises:
            RemoteError, ProtocolError: The server refuses, or is gone.
        """
        reset = pb.Reset(envs=envs)
        if any(seed is not None for seed in seeds):
            reset.seeds.extend(_seed(seed) for seed in seeds)
        if options is not None:
            reset.options.CopyFrom(value_to_message(dict(options)))
        return self._rows(pb.Request(reset=reset), len(envs) or self._count, timeout_s)

    def step(self, actions: list[LeafValue], *, envs: Sequence[int] = (), timeout_s: float) -> Rows:
        """Takes one step in each environment.

        Args:
            actions: Leaves of the action space, stacked over ``envs``.
            envs: Indices; none: all.
            timeout_s: Longest wait.

        Raises:
            RemoteError, ProtocolError: The server refuses, or is gone.
        """
        step = pb.Step(envs=envs, actions=leaves_to_messages(actions))
        return self._rows(pb.Request(step=step), len(envs) or self._count, timeout_s)

    def render(self, *, envs: Sequence[int] = (), timeout_s: float) -> list[UInt8Array | None]:
        """Returns what each environment renders: uint8[H, W, 3], or None.

        Raises:
            RemoteError, ProtocolError: The server refuses, or is gone.
        """
        request = pb.Request(render=pb.Render(envs=envs))
        pictures = self._ask(request, timeout_s, "pictures").pictures.pictures
        if len(pictures) != (len(envs) or self._count):
            raise self._wrong(f"{len(pictures)} pictures came for {len(envs) or self._count}")
        return [array_from_message(p).copy() if p.dtype else None for p in pictures]

    def close(self) -> None:
        """Ends the conversation and with it its environments; may be called twice."""
        self.is_closed = True
        self._channel.close()
        self._memory = None

    def _encoded(self, options: MakeOptions) -> pb.Make:
        try:
            return options.message()
        except (TypeError, ValueError, EncodeError) as error:
            raise ConfigError(f"{self.name}: an argument makes no sense: {error}") from error

    def _ask(self, request: pb.Request, timeout_s: float, expected: str) -> pb.Response:
        self._id += 1
        request.id = self._id
        try:
            data = self._channel.ask(request.SerializeToString(), timeout_s=timeout_s)
        except BaseException:
            self.close()
            raise
        try:
            response = pb.Response.FromString(data)  # type: ignore[arg-type]  # any buffer will do
        except DecodeError as error:
            raise self._wrong("what came is no Response of raygym.v1") from error
        if response.id != self._id:
            raise self._wrong(f"the answer to request {response.id} came, not to {self._id}")
        kind = response.WhichOneof("body")
        if kind == expected:
            return response
        if kind == "error":
            raise exception_of(response.error, self.name)
        raise self._wrong(f"{kind} came where {expected} was due")

    def _rows(self, request: pb.Request, count: int, timeout_s: float) -> Rows:
        batch = self._ask(request, timeout_s, "batch").batch
        try:
            memory = self._memory
            leaves = leaves_from_messages(batch.observations, self._leaf_spaces, count, memory)
        except RemoteProtocolError as error:
            raise self._wrong(error.message) from error
        infos, failures = batch.infos, batch.failures
        sizes = len(batch.envs), len(batch.rewards), len(batch.terminated), len(batch.truncated)
        if sizes != (count, 8 * count, count, count) or len(infos) not in (0, count):
            raise self._wrong(
                f"{sizes[0]} rows with {sizes[1:]} bytes of rewards and ends and {len(infos)} "
                f"infos came for {count} environments"
            )
        if (failures or batch.finals) and not self._are_known(batch):
            raise self._wrong("failures or finals came of an unknown kind or environment")
        is_borrowed = memory is not None and any(
            leaf.array.HasField("offset") for leaf in batch.observations
        )
        return Rows(
            leaves,
            is_borrowed,
            np.frombuffer(batch.rewards, _FLOAT64),
            np.frombuffer(batch.terminated, np.uint8) != 0,
            np.frombuffer(batch.truncated, np.uint8) != 0,
            infos,
            batch.finals,
            failures,
        )

    def _are_known(self, batch: pb.Batch) -> bool:
        count = self._count
        return all(final.env < count for final in batch.finals) and all(
            failure.env < count and failure.outcome in _OUTCOMES for failure in batch.failures
        )

    def _wrong(self, what: str) -> RemoteProtocolError:
        self.close()
        return RemoteProtocolError(f"{self.name}: {what}; the conversation was closed")


def _seed(seed: int | None) -> int:
    if seed is None:
        return -1
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed: expected 0 to {2**63 - 1}, or None, got {seed!r}")
    return int(seed)
