"""What the first messages of a stream say, in each protocol that a gateway speaks.

Until a client has said what it wants, the gateway answers it by itself. From then on messages go
to the remote and back as they are.
"""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf.message import DecodeError

from raygym.errors import (
    ConfigError,
    LeaseError,
    MissingDependency,
    RaygymError,
    SessionLost,
    StepTimeout,
)
from raygym.gateway.admission import Exhausted
from raygym.gateway.visits import Visit
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.runtimes.lockstep.answers import Face, Refused, error_response
from raygym.runtimes.lockstep.dm_fields import RequestRefused, refuse
from raygym.runtimes.lockstep.dm_service import answer_bytes
from raygym.runtimes.lockstep.dm_settings import CreateSettings, create_settings
from raygym.runtimes.lockstep.dm_worlds import Stream, World, Worlds
from raygym.runtimes.lockstep.dm_worlds import error_response as dm_error_response
from raygym.runtimes.lockstep.env_loop import parse
from raygym.runtimes.lockstep.limits import Limits
from raygym.wire.dm_tensors import tensor_from_message, tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb

RUNTIME = "gateway"
"""What a gateway calls itself in a Welcome."""

_CREATE_WORLD = b"\x0a"  # the tag of EnvironmentRequest.create_world
_CLIENT_ID = "client_id"
_LOG_FOLLOWS = " Its log ends:"


class Dialect(Protocol):
    """One stream in one protocol."""

    async def answer(self, request: bytes) -> bytes:
        """Returns the answer to a serialised request.

        Raises:
            SessionLost, StepTimeout: The remote is lost, and the stream is to end.
        """
        ...


def code_of(error: RaygymError) -> int:
    """Returns the number of gRPC's status for what kept a client from a remote."""
    if isinstance(error, Refused | RequestRefused):
        return int(error.code)
    if isinstance(error, Exhausted):
        return pb.Error.RESOURCE_EXHAUSTED
    if isinstance(error, LeaseError):
        return pb.Error.FAILED_PRECONDITION
    if isinstance(error, ConfigError):
        return pb.Error.INVALID_ARGUMENT
    return pb.Error.UNIMPLEMENTED if isinstance(error, MissingDependency) else pb.Error.UNAVAILABLE


def reason_of(error: RaygymError) -> str:
    """Returns what a client is told; the log of a remote stays here."""
    first, *rest = error.message.splitlines() or [type(error).__name__]
    if not rest:
        return first
    return f"{first.removesuffix(_LOG_FOLLOWS)} The gateway's log says more."


class RaygymDialect:
    """A stream of raygym.v1.

    Args:
        visit: Whose stream it is.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._hello: pb.Hello | None = None
        self._is_made = False

    async def answer(self, request: bytes) -> bytes:
        """See ``Dialect``."""
        if self._is_made:
            return await self._visit.ask(request)
        asked = parse(request)
        kind = asked.WhichOneof("body")
        try:
            if kind == "hello":
                return self._welcome(asked).SerializeToString()
            if kind == "make":
                return await self._make(asked)
            what = "this is no request of raygym.v1" if kind is None else f"{kind}: Make first"
            code = pb.Error.INVALID_ARGUMENT if kind is None else pb.Error.FAILED_PRECONDITION
            raise Refused(what, code=code)
        except (SessionLost, StepTimeout):
            raise
        except RaygymError as error:
            self._visit.count_refusal(code_of(error))
            refusal = error_response(
                asked.id,
                code_of(error),
                reason_of(error),
                is_passing=isinstance(error, Exhausted | LeaseError),
            )
            return refusal.SerializeToString()

    def _welcome(self, asked: pb.Request) -> pb.Response:
        if self._hello is not None:
            raise Refused("hello: it was said already", code=pb.Error.FAILED_PRECONDITION)
        house = self._visit.house
        face = Face(runtime=RUNTIME, env_ids=tuple(house.offers.env_ids))
        limits = Limits(max_envs=house.limits.max_envs, max_message_bytes=house.max_request_bytes)
        welcome = face.welcome(asked.hello, limits)
        # Nothing of this machine is shared with whoever comes through a gateway.
        welcome.machine = ""
        self._hello = asked.hello
        return pb.Response(id=asked.id, welcome=welcome)

    async def _make(self, asked: pb.Request) -> bytes:
        if self._hello is None:
            raise Refused("make: say Hello first", code=pb.Error.FAILED_PRECONDITION)
        make, most = asked.make, self._visit.house.limits.max_envs
        if make.count > most:
            raise Refused(
                f"make: {make.count} environments are too many for one lease; at most {most}",
                code=pb.Error.RESOURCE_EXHAUSTED,
            )
        held = await self._visit.lease(make.env_id, self._hello.client_id)
        hello = pb.Hello(version=self._hello.version, client_id=held.client_id)
        await self._visit.ask(pb.Request(id=asked.id, hello=hello).SerializeToString())
        make.env_id = held.wanted.env_id.removeprefix(GYM_CORE_PREFIX)
        make.wants_shared_memory = False
        answer = await self._visit.ask(asked.SerializeToString())
        self._is_made = pb.Response.FromString(answer).HasField("made")
        if not self._is_made:
            await self._visit.give_back()
        return answer


class DmDialect:
    """A stream of dm_env_rpc v1.

    Args:
        visit: Whose stream it is.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        # Answers what makes no sense before there is a world as a server without any does.
        self._nowhere = Stream(Worlds(_no_world))

    async def answer(self, request: bytes) -> bytes:
        """See ``Dialect``."""
        is_leased = self._visit.held is not None
        if is_leased and not request.startswith(_CREATE_WORLD):
            return await self._visit.ask(request)
        try:
            asked = dm.EnvironmentRequest.FromString(request)
        except DecodeError:
            asked = dm.EnvironmentRequest()
        if asked.WhichOneof("payload") != "create_world":
            return await answer_bytes(self._nowhere, request)
        try:
            await self._place(asked.create_world)
        except (SessionLost, StepTimeout):
            raise
        except RaygymError as error:
            code = code_of(error)
            self._visit.count_refusal(code)
            return dm_error_response(code, reason_of(error)).SerializeToString()
        return await self._visit.ask(asked.SerializeToString())

    async def _place(self, request: dm.CreateWorldRequest) -> None:
        """Leases a remote for the first world, and names its environment as the remote does."""
        client_id = _take_client_id(request)
        settings = create_settings(request.settings)
        held = self._visit.held
        if held is None:
            held = await self._visit.lease(settings.env_id, client_id)
        elif settings.env_id:
            await self._check_same(settings.env_id, held.wanted.env_id)
        plain = held.wanted.env_id.removeprefix(GYM_CORE_PREFIX)
        request.settings["env_id"].CopyFrom(tensor_to_message(plain))

    async def _check_same(self, env_id: str, leased: str) -> None:
        asked = await self._visit.find(env_id)
        if asked.env_id != leased:
            raise refuse(
                pb.Error.FAILED_PRECONDITION,
                f"this stream has a remote of {leased}, and {asked.env_id} was asked for; open "
                "another stream for it",
            )


def _take_client_id(request: dm.CreateWorldRequest) -> str:
    """Removes the setting that is the gateway's own, and returns it; empty if there is none."""
    if _CLIENT_ID not in request.settings:
        return ""
    value: Any = tensor_from_message(request.settings[_CLIENT_ID])
    del request.settings[_CLIENT_ID]
    if value.shape != () or not isinstance(value.item(), str):
        raise refuse(
            pb.Error.INVALID_ARGUMENT, f"CreateWorld setting {_CLIENT_ID!r}: expected one string"
        )
    return str(value.item())


async def _no_world(_settings: CreateSettings) -> World:
    raise refuse(pb.Error.INTERNAL, "there is no world here")
