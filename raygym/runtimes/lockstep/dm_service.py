"""dm_env_rpc v1 over gRPC: each of its worlds is a raygym.v1 conversation with one environment.

What the protocol means stands in ``dm_worlds``; here requests come from a stream, and a world's
answers from a Conversation. ``raygym-version`` in the initial metadata tells a peer that the same
port speaks ``raygym.v1`` too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError
from raygym.runtimes.lockstep.conversation import Conversation
from raygym.runtimes.lockstep.dm_fields import (
    Fields,
    LeafMember,
    Moment,
    RequestRefused,
    refuse,
)
from raygym.runtimes.lockstep.dm_settings import CreateSettings
from raygym.runtimes.lockstep.dm_worlds import Stream, WorldFailed, Worlds, error_response
from raygym.wire.leaves import (
    LeafValue,
    array_from_message,
    leaf_spaces,
    leaves_from_messages,
    leaves_to_messages,
)
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_from_message
from raygym.wire.values import map_from_message, map_to_message

log = logging.getLogger(__name__)

_SERVICE = "dm_env_rpc.v1.Environment"
_METADATA = (("raygym-version", "1"),)
_CLOSE_TIMEOUT_S = 15.0

OpenConversation = Callable[[], Awaitable[Conversation]]


class DmHandler(grpc.GenericRpcHandler):
    """Answers ``/dm_env_rpc.v1.Environment/Process`` on a grpc.aio server.

    Args:
        open_conversation: Begins one for a new world; raises RaygymError where it cannot.
        idle_timeout_s: Ends a stream that asked nothing for so long; 0 never.
    """

    def __init__(self, open_conversation: OpenConversation, *, idle_timeout_s: float = 0.0) -> None:
        self._open = open_conversation
        self._idle_timeout_s = idle_timeout_s or None
        self._worlds = Worlds(self._make_world)
        self._closings: set[asyncio.Task[None]] = set()
        process: Any = grpc.stream_stream_rpc_method_handler(self._process)
        self._service = grpc.method_handlers_generic_handler(_SERVICE, {"Process": process})

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns what handles a call; None if it is another's."""
        return self._service.service(handler_call_details)

    async def close(self) -> None:
        """Waits until the worlds of streams that ended have ended too."""
        if self._closings:
            await asyncio.wait(set(self._closings), timeout=_CLOSE_TIMEOUT_S)

    async def _make_world(self, settings: CreateSettings) -> ConversationWorld:
        world = ConversationWorld(await self._open())
        try:
            await world.open(settings)
        except BaseException:
            await world.close()
            raise
        return world

    async def _process(self, _requests: Any, context: Any) -> None:
        await context.send_initial_metadata(_METADATA)
        stream = Stream(self._worlds)
        try:
            while True:
                async with asyncio.timeout(self._idle_timeout_s):
                    request = await context.read()
                if request is grpc.aio.EOF:
                    return
                await context.write(await answer_bytes(stream, request))
        except TimeoutError:
            why = f"nothing was asked for {self._idle_timeout_s:g} s; open another stream"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, why)
        finally:
            # A task of its own, because a peer that hangs up cancels this one.
            closing = asyncio.create_task(stream.close())
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(closing)


def dm_handler(open_conversation: OpenConversation, *, idle_timeout_s: float = 0.0) -> DmHandler:
    """Returns what a grpc.aio server needs to speak dm_env_rpc v1; see ``DmHandler``."""
    return DmHandler(open_conversation, idle_timeout_s=idle_timeout_s)


async def answer_bytes(stream: Stream, data: bytes) -> bytes:
    """Answers a serialised EnvironmentRequest with a serialised EnvironmentResponse."""
    try:
        request = dm.EnvironmentRequest.FromString(data)
    except DecodeError:
        answer = error_response(
            pb.Error.INVALID_ARGUMENT, "these bytes are no dm_env_rpc.v1.EnvironmentRequest"
        )
    else:
        answer = await stream.handle(request)
    return answer.SerializeToString()


class ConversationWorld:
    """One environment, asked over a conversation that this world owns.

    Args:
        conversation: New; nothing was said in it yet.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._requests = 0
        self.picture_shape: tuple[int, ...] | None = None

    async def open(self, settings: CreateSettings) -> None:
        """Makes the environment and finds out what it shows.

        Raises:
            RequestRefused: The server has no such environment, or its factory raised.
            ConfigError: Its spaces cannot be said in dm_env_rpc.
        """
        await self._ask(hello=pb.Hello(version=1, client_id="dm_env_rpc"))
        make = pb.Make(
            env_id=settings.env_id,
            count=1,
            autoreset=pb.DISABLED,
            render_mode=settings.render_mode,
            kwargs=map_to_message(settings.kwargs),
        )
        made = (await self._ask(make=make)).made
        self.action_space = space_from_message(made.action_space)
        self.observation_space = space_from_message(made.observation_space)
        self._observation_leaves = leaf_spaces(self.observation_space)
        metadata = map_from_message(made.metadata)
        if settings.render_mode or "rgb_array" in (metadata.get("render_modes") or ()):
            await self._find_picture_shape()
        Fields(self.action_space, self.observation_space, self.picture_shape, shifts_starts=True)

    async def reset(self, seed: int | None) -> Moment:
        """Begins an episode; see ``World``."""
        reset = pb.Reset(seeds=[] if seed is None else [seed])
        return self._moment((await self._ask(reset=reset)).batch, dm.RUNNING)

    async def step(self, action: list[LeafMember]) -> Moment:
        """Goes on by one step; see ``World``."""
        leaves: list[LeafValue] = [
            [member] if isinstance(member, str) else np.asarray(member)[np.newaxis]
            for member in action
        ]
        step = pb.Step(envs=[0], actions=leaves_to_messages(leaves))
        batch = (await self._ask(step=step)).batch
        state = dm.RUNNING
        if batch.terminated != b"\0":
            state = dm.TERMINATED
        elif batch.truncated != b"\0":
            state = dm.INTERRUPTED
        return self._moment(batch, state)

    async def render(self) -> UInt8Array:
        """Returns uint8[H, W, 3]; see ``World``."""
        picture = await self._render()
        if picture.shape != self.picture_shape:
            raise refuse(
                pb.Error.INTERNAL,
                f"the environment's picture had shape {self.picture_shape} and now has "
                f"{picture.shape}",
            )
        return picture

    async def close(self) -> None:
        """Ends the environment."""
        await self._conversation.close()

    async def _find_picture_shape(self) -> None:
        """Renders once, after a reset, because nothing else tells whether it does."""
        await self.reset(None)
        try:
            picture = await self._render()
        except RequestRefused as error:
            log.info("dm_env_rpc.no_rendering cause=%s", error.message)
            return
        if picture.size:
            self.picture_shape = picture.shape

    async def _render(self) -> UInt8Array:
        pictures = (await self._ask(render=pb.Render(envs=[0]))).pictures.pictures
        if len(pictures) != 1 or not pictures[0].shape:
            return np.zeros(0, np.uint8)
        return array_from_message(pictures[0])

    def _moment(self, batch: pb.Batch, state: dm.EnvironmentStateType) -> Moment:
        if batch.failures:
            failure = batch.failures[0]
            raise WorldFailed(
                _text(failure.error, failure.outcome), code=failure.error.code or pb.Error.UNKNOWN
            )
        leaves = leaves_from_messages(batch.observations, self._observation_leaves, 1)
        rewards = np.frombuffer(batch.rewards, "<f8")
        if rewards.size != 1:
            raise RemoteProtocolError(f"{rewards.size} rewards came for one environment")
        return Moment(state, [leaf[0] for leaf in leaves], float(rewards[0]))

    async def _ask(self, **body: Any) -> pb.Response:
        self._requests += 1
        request = pb.Request(id=self._requests, **body)
        try:
            data = await self._conversation.ask(request.SerializeToString())
            response = pb.Response.FromString(data)
        except DecodeError as error:
            raise RemoteProtocolError("an answer that is no raygym.v1.Response came") from error
        if response.WhichOneof("body") == "error":
            raise RequestRefused(_text(response.error), code=response.error.code)
        return response


def _text(error: pb.Error, outcome: str = "") -> str:
    """Returns all that is known of an error; dm_env_rpc has only one text for it."""
    head = ": ".join(part for part in (outcome, error.type, error.message) if part)
    return f"{head}\n{error.traceback}" if error.traceback else head
