"""A dm_env_rpc peer for unit tests: sends requests to a Stream, and a World that is a script."""

from __future__ import annotations

import asyncio
from typing import Any

import gymnasium
import numpy as np

from raygym.runtimes.lockstep.dm_fields import Moment
from raygym.runtimes.lockstep.dm_settings import CreateSettings
from raygym.runtimes.lockstep.dm_worlds import Stream, WorldFailed, Worlds
from raygym.wire.dm_tensors import tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb


class ScriptedWorld:
    """Counts its steps; ends after three as ``end`` says, or fails with the second."""

    def __init__(
        self,
        *,
        action_space: gymnasium.Space[Any] | None = None,
        end: int = dm.TERMINATED,
        fails: bool = False,
        picture_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.action_space = action_space or gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
        self.picture_shape = picture_shape
        self.end = end
        self.fails = fails
        self.seeds: list[int | None] = []
        self.actions: list[Any] = []
        self.is_closed = False
        self.steps = 0

    async def reset(self, seed: int | None) -> Moment:
        self.seeds.append(seed)
        self.steps = 0
        return self._moment(dm.RUNNING)

    async def step(self, action: list[Any]) -> Moment:
        self.actions.append(action)
        self.steps += 1
        if self.fails and self.steps == 2:
            raise WorldFailed("ValueError: no ball", code=pb.Error.UNKNOWN)
        return self._moment(self.end if self.steps == 3 else dm.RUNNING)

    async def render(self) -> Any:
        return np.full(self.picture_shape or (), self.steps, np.uint8)

    async def close(self) -> None:
        self.is_closed = True

    def _moment(self, state: int) -> Moment:
        return Moment(state, [np.array([self.steps], np.float32)], 0.5 * self.steps)


class Server:
    """The worlds of a server whose environments are scripts."""

    def __init__(self, **script: Any) -> None:
        self.made: list[ScriptedWorld] = []
        self.settings: list[CreateSettings] = []

        async def make(settings: CreateSettings) -> ScriptedWorld:
            self.settings.append(settings)
            self.made.append(ScriptedWorld(**script))
            return self.made[-1]

        self.worlds = Worlds(make)

    def peer(self) -> Peer:
        """Returns a new stream."""
        return Peer(self)

    def joined(self, **settings: Any) -> Peer:
        """Returns a stream that has created and joined a world."""
        peer = self.peer()
        peer.create()
        peer.join(peer.world, **settings)
        return peer


class Peer:
    """One stream; each method sends a request and returns the answer, or the error's Status."""

    def __init__(self, server: Server) -> None:
        self._stream = Stream(server.worlds)
        self.server = server
        self.world = ""

    def send(self, **payload: Any) -> Any:
        response = asyncio.run(self._stream.handle(dm.EnvironmentRequest(**payload)))
        return getattr(response, response.WhichOneof("payload"))

    def create(self, **settings: Any) -> Any:
        answer = self.send(create_world=dm.CreateWorldRequest(settings=tensors(settings)))
        self.world = getattr(answer, "world_name", self.world)
        return answer

    def join(self, name: str, **settings: Any) -> Any:
        request = dm.JoinWorldRequest(world_name=name, settings=tensors(settings))
        return self.send(join_world=request)

    def step(self, actions: dict[int, Any] | None = None, *requested: int) -> Any:
        sent = {uid: as_tensor(value) for uid, value in (actions or {}).items()}
        request = dm.StepRequest(actions=sent, requested_observations=requested)
        return self.send(step=request)

    def reset(self, **settings: Any) -> Any:
        return self.send(reset=dm.ResetRequest(settings=tensors(settings)))

    def reset_world(self, name: str, **settings: Any) -> Any:
        request = dm.ResetWorldRequest(world_name=name, settings=tensors(settings))
        return self.send(reset_world=request)

    def leave(self) -> Any:
        return self.send(leave_world=dm.LeaveWorldRequest())

    def destroy(self, name: str) -> Any:
        return self.send(destroy_world=dm.DestroyWorldRequest(world_name=name))

    def hang_up(self) -> None:
        asyncio.run(self._stream.close())


def tensors(settings: dict[str, Any]) -> dict[str, dm.Tensor]:
    """Returns settings as they travel."""
    return {name.replace("__", "."): as_tensor(value) for name, value in settings.items()}


def as_tensor(value: Any) -> dm.Tensor:
    """Returns a tensor; Tensors as they are."""
    return value if isinstance(value, dm.Tensor) else tensor_to_message(value)
