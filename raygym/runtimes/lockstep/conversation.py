"""One conversation, as the server sees it: a serialised request in, the response out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
from typing import Protocol, runtime_checkable

from raygym.errors import RemoteProtocolError
from raygym.runtimes.lockstep.answers import error_response
from raygym.runtimes.lockstep.env_loop import EnvLoop, parse
from raygym.runtimes.lockstep.supervisor import Supervisor, WorkerSetup
from raygym.wire.framing import FrameReader, frame
from raygym.wire.proto import raygym_v1_pb2 as pb

_CLOSE_TIMEOUT_S = 10.0


class Conversation(Protocol):
    """The environments of one client, until it is closed."""

    async def ask(self, request: bytes) -> bytes:
        """Returns the response to a serialised request; one request at a time.

        Never raises for what an environment does, nor for a request that makes no sense: the
        response says so. It comes within the deadlines of the server.
        """
        ...

    async def close(self) -> None:
        """Ends the environments. May be called twice."""
        ...


@runtime_checkable
class AdoptingConversation(Conversation, Protocol):
    """One that can serve a client's socket without a detour."""

    async def adopt(self, sock: socket.socket) -> None:
        """Serves framed requests on a connected socket, which it then owns, until hang-up."""
        ...


class WorkerConversation:
    """Environments in a process of their own, replaced when it is lost.

    Args:
        setup: How that process is started.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._line: _Line | None = None
        self._running: asyncio.Task[None] | None = None

    async def ask(self, request: bytes) -> bytes:
        """Returns the response to a serialised request; see ``Conversation``."""
        if self._line is None:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self._running = asyncio.create_task(Supervisor(theirs, self._setup).run())
            loop = asyncio.get_running_loop()
            max_bytes = self._setup.limits.max_message_bytes
            _, self._line = await loop.create_connection(lambda: _Line(max_bytes), sock=ours)
        answer = await self._line.ask(request)
        if answer is not None:
            return answer
        return error_response(
            parse(request).id,
            pb.Error.UNAVAILABLE,
            "this conversation is over: its process ended, or it asked nothing for too long; "
            "open another",
        ).SerializeToString()

    async def adopt(self, sock: socket.socket) -> None:
        """Has the process serve a client's socket itself; returns once the client is gone."""
        self._running = asyncio.create_task(Supervisor(sock, self._setup).run())
        await asyncio.wait({self._running})

    async def close(self) -> None:
        """Ends the process, first by hanging up on it. May be called twice."""
        if self._line is not None:
            self._line.hang_up()
        elif self._running is not None:
            self._running.cancel()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=_CLOSE_TIMEOUT_S)
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=_CLOSE_TIMEOUT_S)


class _Line(asyncio.Protocol):
    """Our end of the socket that a supervisor serves."""

    def __init__(self, max_bytes: int) -> None:
        # An answer that says that another was too long must always fit.
        self._reader = FrameReader(max(max_bytes, 2**20))
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except RemoteProtocolError:
            self.hang_up()
            return
        for message in messages:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    async def ask(self, request: bytes) -> bytes | None:
        """Returns the answer; None if the other end is gone."""
        if self._transport is None:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame(request, 2**32 - 1))
        return await self._answer

    def hang_up(self) -> None:
        """Closes the socket."""
        if self._transport is not None:
            self._transport.abort()


class LoopConversation:
    """Environments on a thread of this process: for tests, and for what cannot be pickled.

    A request that takes too long is answered in time, but cannot be ended.

    Args:
        loop: The environments.
        setup: Its deadlines.
    """

    def __init__(
        self, loop: EnvLoop, *, step_timeout_s: float = 60.0, start_timeout_s: float = 60.0
    ) -> None:
        self._loop = loop
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="lockstep")
        self._busy: asyncio.Future[bytes] | None = None
        self._is_closed = False

    async def ask(self, request: bytes) -> bytes:
        """Returns the response to a serialised request; see ``Conversation``."""
        asked = parse(request)
        if self._is_closed or (self._busy is not None and not self._busy.done()):
            why = "the environment still does what was asked before, or is closed"
            return error_response(asked.id, pb.Error.UNAVAILABLE, why).SerializeToString()
        is_step = asked.WhichOneof("body") in ("step", "render")
        timeout_s = self._step_timeout_s if is_step else self._start_timeout_s
        loop = asyncio.get_running_loop()
        self._busy = loop.run_in_executor(self._thread, self._loop.handle_bytes, request)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._busy)
        except TimeoutError:
            why = f"the environment did not answer within {timeout_s:g} s"
            return error_response(asked.id, pb.Error.DEADLINE_EXCEEDED, why).SerializeToString()

    async def close(self) -> None:
        """Closes the environments, unless they never return. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await loop.run_in_executor(self._thread, self._loop.close)
        self._thread.shutdown(wait=False)
