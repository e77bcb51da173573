"""The states of dm_env_rpc: worlds, who joined them, and where their sequences stand.

A stream is joined to one world or to none. A joined world is between two sequences
(``TERMINATED``, ``INTERRUPTED``) or in one (``RUNNING``). The first step of a sequence starts it
and its actions are ignored; the step that ends it says how; the next one starts another.

Worlds belong to the stream that created them and end with it. Any stream may join one that has
no player. Nothing here knows of sockets, clocks or environments: a ``World`` is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium

from raygym.core import UInt8Array
from raygym.errors import ConfigError, RaygymError
from raygym.runtimes.lockstep.dm_fields import (
    RENDERING_UID,
    Fields,
    LeafMember,
    Moment,
    RequestRefused,
    refuse,
)
from raygym.runtimes.lockstep.dm_settings import (
    CAPABILITIES,
    CreateSettings,
    check_names,
    create_settings,
    seed_setting,
)
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb

MAX_WORLDS_PER_STREAM = 16


class WorldFailed(RequestRefused):
    """The environment raised, hung or died; only a reset brings it back."""


class World(Protocol):
    """One environment for one player."""

    action_space: gymnasium.Space[Any]
    observation_space: gymnasium.Space[Any]
    picture_shape: tuple[int, ...] | None

    async def reset(self, seed: int | None) -> Moment:
        """Begins an episode; its state is ``RUNNING``.

        Raises:
            RequestRefused: It could not; WorldFailed where it was tried.
        """

    async def step(self, action: list[LeafMember]) -> Moment:
        """Goes on by one step with the leaves of an action.

        Raises:
            RequestRefused: Nothing was done.
            WorldFailed: The episode is lost.
        """

    async def render(self) -> UInt8Array:
        """Returns the picture of now, of ``picture_shape``."""

    async def close(self) -> None:
        """Ends the environment; does nothing the second time."""


MakeWorld = Callable[[CreateSettings], Awaitable[World]]


@dataclass
class _Entry:
    """A world and what all streams need to know of it."""

    world: World
    player: Stream | None = None
    next_seed: int | None = None
    is_interrupted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Worlds:
    """The worlds of one server.

    Args:
        make_world: Starts an environment; raises RequestRefused or ConfigError.
    """

    def __init__(self, make_world: MakeWorld) -> None:
        self._make_world = make_world
        self._entries: dict[str, _Entry] = {}
        self._created = 0

    async def create(self, settings: CreateSettings) -> str:
        """Makes a world and returns its name.

        Raises:
            RequestRefused, ConfigError: It cannot be made.
        """
        entry = _Entry(await self._make_world(settings), next_seed=settings.seed)
        self._created += 1
        name = f"world-{self._created}"
        self._entries[name] = entry
        return name

    def find(self, name: str) -> _Entry:
        """Returns the world of that name.

        Raises:
            RequestRefused: There is none.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise refuse(
                pb.Error.NOT_FOUND,
                f"there is no world {name!r}; CreateWorld makes one, and it ends with its stream",
            )
        return entry

    async def destroy(self, name: str) -> None:
        """Ends a world, its player's sequence with it."""
        entry = self._entries.pop(name)
        if entry.player is not None:
            entry.player.lose_world()
        async with entry.lock:
            await entry.world.close()


class Stream:
    """One peer: what it joined and where its sequence stands.

    Args:
        worlds: Shared by all streams of a server.
    """

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self._own: list[str] = []
        self._entry: _Entry | None = None
        self._world_name = ""
        self._fields: Fields | None = None
        self._state: dm.EnvironmentStateType = dm.INTERRUPTED
        self._last: Moment | None = None
        self._needs_reset = False

    async def handle(self, request: dm.EnvironmentRequest) -> dm.EnvironmentResponse:
        """Answers one request; what goes wrong becomes an ``error`` in the answer."""
        kind = request.WhichOneof("payload")
        handlers: dict[str | None, Callable[[Any], Awaitable[Any]]] = {
            "create_world": self._create_world,
            "join_world": self._join_world,
            "step": self._step,
            "reset": self._reset,
            "reset_world": self._reset_world,
            "leave_world": self._leave_world,
            "destroy_world": self._destroy_world,
        }
        handler = handlers.get(kind)
        if kind is None or handler is None:
            return error_response(
                pb.Error.UNIMPLEMENTED,
                f"this server knows no request {kind or 'without a payload'}",
            )
        try:
            answer = await handler(getattr(request, kind))
        except ConfigError as error:
            return error_response(pb.Error.INVALID_ARGUMENT, error.message)
        except RaygymError as error:
            return error_response(getattr(error, "code", pb.Error.INTERNAL), error.message)
        return dm.EnvironmentResponse(**{kind: answer})

    async def close(self) -> None:
        """Leaves the joined world and ends those that this stream created."""
        self._leave()
        own, self._own = self._own, []
        for name in own:
            await self._worlds.destroy(name)

    def lose_world(self) -> None:
        """Is told when somebody destroyed the joined world."""
        self._entry = None
        self._fields = None

    async def _create_world(self, request: dm.CreateWorldRequest) -> dm.CreateWorldResponse:
        if len(self._own) >= MAX_WORLDS_PER_STREAM:
            raise refuse(
                pb.Error.RESOURCE_EXHAUSTED,
                f"this stream has {len(self._own)} worlds already; destroy one first",
            )
        name = await self._worlds.create(create_settings(request.settings))
        self._own.append(name)
        return dm.CreateWorldResponse(world_name=name)

    async def _join_world(self, request: dm.JoinWorldRequest) -> dm.JoinWorldResponse:
        if self._entry is not None:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                f"this stream has joined {self._world_name!r} already; leave it first",
            )
        entry = self._worlds.find(request.world_name)
        check_names("JoinWorld", request.settings, ("seed", CAPABILITIES))
        if entry.player is not None:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                f"world {request.world_name!r} has its one player already",
            )
        seed = seed_setting("JoinWorld", request.settings)
        fields = Fields(
            entry.world.action_space,
            entry.world.observation_space,
            entry.world.picture_shape,
            shifts_starts=CAPABILITIES not in request.settings,
        )
        entry.player, entry.is_interrupted = self, False
        entry.next_seed = entry.next_seed if seed is None else seed
        self._entry, self._world_name, self._fields = entry, request.world_name, fields
        self._between_sequences()
        return dm.JoinWorldResponse(specs=fields.specs)

    async def _step(self, request: dm.StepRequest) -> dm.StepResponse:
        entry, fields = self._joined("Step")
        wanted = fields.check_requested(request.requested_observations)
        async with entry.lock:
            moment = await self._advance(entry, fields, request.actions)
            self._state, self._last = moment.state, moment
            picture = await entry.world.render() if RENDERING_UID in wanted else None
        return dm.StepResponse(
            state=moment.state, observations=fields.write_observations(moment, wanted, picture)
        )

    async def _advance(
        self, entry: _Entry, fields: Fields, actions: Mapping[int, dm.Tensor]
    ) -> Moment:
        """Starts a sequence, goes on with it, or says that another stream ended it."""
        if self._needs_reset:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                "the environment failed in this sequence; send a Reset to start another",
            )
        try:
            if self._state != dm.RUNNING:
                entry.is_interrupted = False
                moment = await entry.world.reset(entry.next_seed)
                entry.next_seed = None
                return moment
            if entry.is_interrupted and self._last is not None:
                entry.is_interrupted = False
                return Moment(dm.INTERRUPTED, self._last.observation)
            return await entry.world.step(fields.read_actions(actions))
        except WorldFailed:
            self._needs_reset = True
            raise

    async def _reset(self, request: dm.ResetRequest) -> dm.ResetResponse:
        entry, fields = self._joined("Reset")
        seed = seed_setting("Reset", request.settings, names=("seed",))
        entry.next_seed = entry.next_seed if seed is None else seed
        self._between_sequences()
        return dm.ResetResponse(specs=fields.specs)

    async def _reset_world(self, request: dm.ResetWorldRequest) -> dm.ResetWorldResponse:
        entry = self._worlds.find(request.world_name)
        seed = seed_setting("ResetWorld", request.settings, names=("seed",))
        entry.next_seed = entry.next_seed if seed is None else seed
        if entry is self._entry:
            self._between_sequences()
        else:
            entry.is_interrupted = entry.player is not None
        return dm.ResetWorldResponse()

    async def _leave_world(self, _request: dm.LeaveWorldRequest) -> dm.LeaveWorldResponse:
        self._leave()
        return dm.LeaveWorldResponse()

    async def _destroy_world(self, request: dm.DestroyWorldRequest) -> dm.DestroyWorldResponse:
        entry = self._worlds.find(request.world_name)
        if entry.player is not None:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                f"world {request.world_name!r} has a player; it must leave first",
            )
        if request.world_name not in self._own:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                f"world {request.world_name!r} was created by another stream, which alone "
                "may destroy it",
            )
        self._own.remove(request.world_name)
        await self._worlds.destroy(request.world_name)
        return dm.DestroyWorldResponse()

    def _joined(self, what: str) -> tuple[_Entry, Fields]:
        if self._entry is None or self._fields is None:
            raise refuse(
                pb.Error.FAILED_PRECONDITION, f"{what} needs a world: send a JoinWorld first"
            )
        return self._entry, self._fields

    def _between_sequences(self) -> None:
        self._state, self._last, self._needs_reset = dm.INTERRUPTED, None, False

    def _leave(self) -> None:
        if self._entry is not None:
            self._entry.player = None
        self.lose_world()


def error_response(code: int, message: str) -> dm.EnvironmentResponse:
    """Returns the answer that carries an error."""
    valid = message.encode("utf-8", "backslashreplace").decode()
    return dm.EnvironmentResponse(error=dm.Status(code=code, message=valid))
