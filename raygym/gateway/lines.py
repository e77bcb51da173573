"""Lines from a gateway to the lock-step endpoint of a remote: bytes there, bytes back."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from raygym.core import Remote
from raygym.errors import (
    ConfigError,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.channel import METHOD as RAYGYM_METHOD
from raygym.remote_env.rpc.credentials import channel_credentials
from raygym.remote_env.rpc.dm_session import METHOD as DM_METHOD
from raygym.remote_env.rpc.grpc_channel import target_of
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.lockstep.local_socket import choose_name
from raygym.runtimes.lockstep.server import METADATA
from raygym.wire.framing import FrameReader, frame

__all__ = ["DM_METHOD", "RAYGYM_METHOD", "FramedLine", "GrpcLine", "Line", "open_line"]

_LONGEST = 2**32 - 1
_GREETING = METADATA[0][0]
_OPTIONS = [
    # Its own remotes are trusted to keep to their limit.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class Line(Protocol):
    """One conversation with a remote; one request is under way at a time."""

    async def ask(self, request: bytes) -> bytes:
        """Returns the answer to a serialised request.

        Raises:
            SessionLost: The remote hung up.
            StepTimeout: It did not answer in time.
        """
        ...

    async def close(self) -> None:
        """Ends the conversation, with what it made at the far end. May be called twice."""
        ...


async def open_line(remote: Remote, method: str, *, timeout_s: float) -> Line:
    """Returns a new conversation with a remote, the cheapest that it speaks.

    Args:
        remote: In lock-step.
        method: ``RAYGYM_METHOD`` or ``DM_METHOD``.
        timeout_s: Longest wait for each answer.

    Raises:
        ConfigError: The remote has no lock-step endpoint.
        RemoteUnreachable: Nothing listens there.
    """
    if remote.rpc is None:
        raise ConfigError(f"{remote.id} ({remote.runtime}) has no lock-step endpoint")
    if method == RAYGYM_METHOD and remote.rpc.path is not None:
        directory = Path(remote.rpc.path).parent
        path = choose_name(RpcConfig(bind=None, directory=directory))
        with contextlib.suppress(FileNotFoundError):
            return await FramedLine.open(path, remote.id, timeout_s=timeout_s)
    return GrpcLine(remote, method, timeout_s=timeout_s)


class FramedLine(asyncio.Protocol):
    """A conversation over a unix socket; see ``Line``. ``open`` makes one.

    Args:
        name: Of the remote, for messages.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._why_over = ""

    @classmethod
    async def open(cls, path: str, name: str, *, timeout_s: float) -> FramedLine:
        """Connects.

        Raises:
            FileNotFoundError: There is no such socket.
            RemoteUnreachable: Nothing listens there.
        """
        line = cls(name, timeout_s=timeout_s)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_unix_connection(lambda: line, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RemoteUnreachable(f"{name}: {error}; it seems to have ended") from error
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is told by the event loop."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Is told by the event loop."""
        try:
            messages = self._reader.feed(data)
        except RemoteProtocolError as error:
            self._why_over = error.message
            self._hang_up()
            return
        for message in messages:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Is told by the event loop."""
        self._transport = None
        self._why_over = self._why_over or str(exc or "the connection ended")
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._lost())

    async def ask(self, request: bytes) -> bytes:
        """See ``Line``."""
        if self._transport is None:
            raise self._lost()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame(request, _LONGEST))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._answer
        except TimeoutError as error:
            raise _overdue(self._name, self._timeout_s) from error

    async def close(self) -> None:
        """See ``Line``."""
        self._hang_up()

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _lost(self) -> SessionLost:
        return SessionLost(f"{self._name} hung up: {self._why_over}")


class GrpcLine:
    """A conversation over gRPC; see ``Line``.

    Args:
        remote: With an endpoint of gRPC.
        method: Full name of a stream-stream method.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, remote: Remote, method: str, *, timeout_s: float) -> None:
        assert remote.rpc is not None  # noqa: S101  open_line looked
        self._name = remote.id
        self._timeout_s = timeout_s
        target = target_of(remote.rpc)
        self._channel: grpc.aio.Channel = (
            grpc.aio.secure_channel(target, channel_credentials(None), _OPTIONS)
            if remote.rpc.is_tls
            else grpc.aio.insecure_channel(target, _OPTIONS)
        )
        token = remote.password
        metadata = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)
        stream: Any = self._channel.stream_stream(method)
        self._call: Any = stream(metadata=metadata)
        self._is_open = False

    async def ask(self, request: bytes) -> bytes:
        """See ``Line``."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if not self._is_open:
                    await self._open()
                await self._call.write(request)
                answer = await self._call.read()
        except TimeoutError as error:
            raise _overdue(self._name, self._timeout_s) from error
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._lost() from error
        if answer is grpc.aio.EOF:
            raise await self._lost()
        return bytes(answer)

    async def close(self) -> None:
        """See ``Line``."""
        self._call.cancel()
        await self._channel.close()

    async def _open(self) -> None:
        """Waits until the remote has taken the stream; a write to one refused hides why."""
        if _GREETING not in await self._call.initial_metadata():
            raise await self._lost()
        self._is_open = True

    async def _lost(self) -> SessionLost:
        code, said = await self._call.code(), await self._call.details()
        return SessionLost(f"{self._name} ended the conversation: {said} ({code.name})")


def _overdue(name: str, timeout_s: float) -> StepTimeout:
    return StepTimeout(f"{name} did not answer within {timeout_s:g} s")
