"""The nouns that every layer shares. Numpy only; see ``docs/architecture.md``."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from raygym.errors import ConfigError

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Float32Array: TypeAlias = npt.NDArray[np.float32]


class Outcome(enum.StrEnum):
    """Why a step, or the episode that it closed, ended as it did."""

    OK = "ok"
    """The environment did what it is for."""
    ENV_FAILURE = "env_failure"
    """The environment broke (a crashed browser); its Remote lives on."""
    INFRA_FAILURE = "infra_failure"
    """The Remote, or the way to it, was lost."""
    TIMEOUT = "timeout"
    """No answer came within a deadline."""
    PREEMPTED = "preempted"
    """Somebody entitled to it took the Remote away."""


@dataclass(frozen=True)
class Endpoint:
    """Where a Remote listens: a unix socket, or a host and port.

    Exactly one of ``path`` and ``host`` is set.
    """

    path: str | None = None
    """Path of a unix socket."""
    host: str | None = None
    """Host name or address."""
    port: int | None = None
    """TCP port, 1 to 65535."""
    is_tls: bool = False
    """Whether TLS is spoken there; only over TCP."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.host is None):
            raise ConfigError(f"Endpoint: give a path or a host, not both or none; got {self!r}")
        if self.host is not None and not (isinstance(self.port, int) and 0 < self.port <= 65535):
            raise ConfigError(
                f"Endpoint.port: expected 1..65535 for {self.host!r}, got {self.port!r}"
            )
        if self.is_tls and self.path is not None:
            raise ConfigError(f"Endpoint.is_tls: a unix socket has no TLS; got {self!r}")

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Secret:
    """A password that never shows in a repr, log or traceback; read it with ``reveal``."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Returns the password itself."""
        return self._value

    def __str__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One running copy of a Runtime."""

    id: str
    """Unique name, as it stands in logs: ``r-7f2a91``."""
    runtime: str
    """Name of its Runtime; empty where nobody has said yet (a bare address)."""
    vnc: Endpoint | None
    """Where RFB is spoken; None for a remote without a screen."""
    rewarder: Endpoint | None
    """Where the reward channel is spoken; None for a screen without rewards."""
    password: Secret | None = None
    """Password of all endpoints, the token of ``rpc``; None where none is asked."""
    rpc: Endpoint | None = None
    """Where raygym.v1 is spoken over gRPC, in lock-step; None for a remote in real time."""


@dataclass(frozen=True)
class Frame:
    """One whole screen.

    The pixels are a read-only view; copy what must last.
    """

    pixels: UInt8Array
    """uint8[H, W, 3], RGB, top row first."""
    arrived_s: float
    """When the last byte of it came, in seconds of ``time.monotonic``."""
    number: int
    """Counts the screen updates of its Session, from 1."""


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How old things were, in milliseconds; None where it was not measured.

    Clock skew between both ends is already taken out.
    """

    observation_ms: float | None = None
    """From painting at the far end to the hand-over of the frame."""
    action_ms: float | None = None
    """From sending an input event to its arrival at the program."""
    reward_ms: float | None = None
    """From the event at the far end to the hand-over of its reward."""
    thinking_ms: float | None = None
    """From the return of one step to the call of the next."""

    @property
    def reaction_ms(self) -> float | None:
        """Observation + thinking + action lag: from a change on screen to an answer to it."""
        parts = (self.observation_ms, self.thinking_ms, self.action_ms)
        return None if None in parts else float(sum(p for p in parts if p is not None))


@dataclass(frozen=True, kw_only=True)
class Timestep:
    """What one step gave."""

    observation: UInt8Array
    """As the environment's observation space says."""
    reward: float
    """Sum of the rewards since the step before."""
    terminated: bool
    """The episode reached its own end."""
    truncated: bool
    """The episode was cut, by its time limit or by a failure."""
    outcome: Outcome
    """OK unless something failed; a failed step must not be learned from as an end."""
    lag: Lag = field(default_factory=Lag)
    """How old the parts were."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the remote said."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A time-major block of Timesteps. T is time, B the number of slots.

    ``observations[t]`` is what ``actions[t]`` answered; ``rewards[t]`` came of it.
    """

    observations: npt.NDArray[Any]
    """[T, B, ...] of the observation space's dtype: uint8 for pictures."""
    actions: npt.NDArray[Any]
    """int64[T, B] for Discrete; the action space's dtype[T, B, ...] for any other."""
    log_probabilities: Float32Array
    """float32[T, B], of the actions taken, under the acting policy."""
    values: Float32Array
    """float32[T, B], of the observations, under the acting policy."""
    rewards: Float32Array
    """float32[T, B]."""
    terminated: npt.NDArray[np.bool_]
    """bool[T, B]: the episode reached its own end with this step."""
    truncated: npt.NDArray[np.bool_]
    """bool[T, B]: the episode was cut with this step."""
    mask: npt.NDArray[np.bool_]
    """bool[T, B]: False where a step must not enter a loss, because something failed."""
    last_observation: npt.NDArray[Any]
    """[B, ...]: what followed the last action, for the bootstrap value."""
    final_values: Float32Array
    """float32[T, B]: value of the observation that a truncated step ended on, else 0."""
    initial_state: tuple[Float32Array, ...]
    """Recurrent state before step 0, each float32[B, ...]; empty for a feed-forward policy."""
    weights_version: int
    """Which weights acted: the oldest of them."""
    traces: Traces | None = None
    """Where each step came from; None in a rollout made by hand."""
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """What else the policy said of each step, by name: [T, B, ...] each."""
    final_observations: npt.NDArray[Any] | None = None
    """[n, ...]: what the n steps of ``is_cut`` ended on, row by row; None where nobody kept it."""

    @property
    def is_cut(self) -> npt.NDArray[np.bool_]:
        """bool[T, B]: the episode was cut with this step, but not by a failure."""
        cut: npt.NDArray[np.bool_] = self.truncated & ~self.terminated & self.mask
        return cut


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Where each step of a Rollout came from, and how it went."""

    outcomes: UInt8Array
    """uint8[T, B]: index into ``OUTCOMES``; 0 is ``ok``."""
    weights_versions: npt.NDArray[np.int64]
    """int64[T, B]: which weights chose the action."""
    lag_ms: Float32Array
    """float32[T, B, 4]: milliseconds as in ``LAGS``; NaN where it was not measured."""
    slots: npt.NDArray[np.int64]
    """int64[B]: the slot of each column; unique within its source."""
    episodes: npt.NDArray[np.int64]
    """int64[T, B]: counts the episodes of a slot, from 0."""
    remotes: npt.NDArray[np.int32]
    """int32[T, B]: index into ``remote_ids``; -1 for an environment without a Remote."""
    remote_ids: tuple[str, ...] = ()
    """Ids of the Remotes that took part."""
    leases: npt.NDArray[np.int32]
    """int32[T, B]: index into ``lease_ids``; -1 where nothing was leased."""
    lease_ids: tuple[str, ...] = ()
    """The leases that held them: Remote id, a colon, the fencing token."""


OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
"""The order in which Traces count outcomes."""
LAGS: tuple[str, ...] = (
    "reaction_time_ms",
    "observation_lag_ms",
    "action_lag_ms",
    "reward_lag_ms",
)
"""The order in which Traces keep lags, by their names in an info."""


class Acted(NamedTuple):
    """What a policy says to a batch of observations; a plain tuple of the first four will do."""

    actions: npt.NDArray[Any]
    """int64[B], or the action space's dtype[B, ...]."""
    log_probabilities: Float32Array
    """float32[B]."""
    values: Float32Array
    """float32[B]."""
    state: tuple[Float32Array, ...]
    """Recurrent state after it, each float32[B, ...]."""
    extras: Mapping[str, npt.NDArray[Any]] = {}
    """More to keep of each step, by name: [B, ...] each."""


Event: TypeAlias = tuple[Any, ...]
"""One of Universe's input events: ``("KeyEvent", "ArrowUp", True)`` or
``("PointerEvent", x, y, buttonmask)``."""


class Backend(Protocol):
    """Makes, lists and removes Remotes of one kind."""

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Starts a Remote and returns once its endpoints are known (it may not be ready yet).

        Raises:
            RemoteFailedToStart: It ended, or named no endpoints in time. Ends with its log.
            MissingDependency: A program that the runtime needs is absent.
        """
        ...

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes that are there now."""
        ...

    def remove(self, remote_id: str) -> None:
        """Ends a Remote and everything that belongs to it; unknown ids are ignored."""
        ...

    def release(self, remote_id: str) -> None:
        """Gives back a Remote that is whole; it may be kept for its Client. Unknown: ignored."""
        ...

    def holds(self, remote_id: str) -> bool:
        """Returns whether a Remote is still the one that this backend gave, and this process's."""
        ...

    def lease_id(self, remote_id: str) -> str:
        """Returns the lease by which this process has a Remote: its id, a colon, the token.

        An empty string where nothing is leased.
        """
        ...

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        """Counts an episode; returns whether the Remote is worn, and to be removed.

        Args:
            remote_id: Whose episode ended.
            steps: How many it had.
            seconds: From its first observation to its end.
        """
        ...

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns the end of a Remote's own log, or an empty string if there is none."""
        ...

    def close(self) -> None:
        """Removes every Remote that this backend made. May be called twice."""
        ...


class Policy(Protocol):
    """Observations and recurrent state in; actions, log-probabilities and values out."""

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the recurrent state at the start of an episode, each float32[batch, ...]."""
        ...

    def act(
        self, observations: UInt8Array, state: tuple[Float32Array, ...]
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Chooses actions.

        Args:
            observations: uint8[B, ...].
            state: As the last call returned it.

        Returns:
            actions int64[B], log_probabilities float32[B], values float32[B], state.
        """
        ...
