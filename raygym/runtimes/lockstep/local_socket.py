"""Framed conversations over a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from raygym.errors import ConfigError
from raygym.runtimes.lockstep.answers import error_response
from raygym.runtimes.lockstep.conversation import AdoptingConversation, Conversation
from raygym.runtimes.lockstep.env_loop import parse
from raygym.runtimes.lockstep.frames import FrameTooLong, read_frame_soon, write_frame_soon
from raygym.runtimes.lockstep.gate import Streams
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.wire.proto import raygym_v1_pb2 as pb

log = logging.getLogger(__name__)

_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_REFUSAL_TIMEOUT_S = 10.0
_MOST_REFUSALS = 256
_PAUSE_S = 0.2


def choose_name(config: RpcConfig) -> str:
    """Returns where to listen: a path in the directory, or a name that no file stands for."""
    if config.directory is not None:
        return str(config.directory / "lockstep.sock")
    return f"\0raygym-{secrets.token_hex(8)}"


class LocalSocket:
    """Accepts connections of this user's processes, each with a conversation of its own.

    Args:
        name: Where it listens; a leading NUL is Linux's abstract namespace.
        open_conversation: Begins one.
        streams: Counts them.
        config: Limits.
    """

    def __init__(
        self,
        name: str,
        open_conversation: Callable[[], Awaitable[Conversation]],
        streams: Streams,
        config: RpcConfig,
    ) -> None:
        self._name = name
        self._open = open_conversation
        self._streams = streams
        self._config = config
        self._listener: socket.socket | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._refusals = 0

    def start(self) -> None:
        """Listens.

        Raises:
            ConfigError: It cannot listen there.
        """
        listener = socket.socket(socket.AF_UNIX)
        try:
            if not self._name.startswith("\0"):
                Path(self._name).unlink(missing_ok=True)
            listener.bind(self._name)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"RpcConfig.directory: cannot listen on {self._name!r}: {error}"
            ) from error
        listener.setblocking(False)
        self._listener = listener
        self._keep(asyncio.create_task(self._accept(listener)))

    async def close(self) -> None:
        """Ends all conversations, and removes the socket's file. May be called twice."""
        jobs = set(self._jobs)
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs, timeout=_REFUSAL_TIMEOUT_S)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if not self._name.startswith("\0"):
                Path(self._name).unlink(missing_ok=True)

    def _keep(self, job: asyncio.Task[None]) -> None:
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("local_socket.broken error=%s: %s", type(error).__name__, error)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("local_socket.accept_failed error=%s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            sock.setblocking(False)
            if _uid(sock) not in (0, os.getuid()):
                sock.close()
            elif self._streams.enter():
                self._keep(asyncio.create_task(self._serve(sock)))
            elif self._refusals < _MOST_REFUSALS:
                self._keep(asyncio.create_task(self._refuse(sock)))
            else:
                sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        try:
            conversation = await self._open()
            try:
                if isinstance(conversation, AdoptingConversation):
                    await conversation.adopt(sock)
                else:
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        await self._relay(sock, conversation)
            finally:
                await conversation.close()
        finally:
            self._streams.leave()
            sock.close()

    async def _relay(self, sock: socket.socket, conversation: Conversation) -> None:
        while True:
            try:
                async with asyncio.timeout(self._config.idle_timeout_s or None):
                    request = await read_frame_soon(sock, self._config.max_message_bytes)
            except FrameTooLong as too_long:
                await write_frame_soon(sock, too_long.response.SerializeToString())
                continue
            if request is None:
                return
            await write_frame_soon(sock, await conversation.ask(request))

    async def _refuse(self, sock: socket.socket) -> None:
        self._refusals += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, FrameTooLong):
                async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
                    first = await read_frame_soon(sock, self._config.max_message_bytes) or b""
                    why = self._streams.refusal
                    answer = error_response(
                        parse(first).id, pb.Error.RESOURCE_EXHAUSTED, why, is_passing=True
                    )
                    await write_frame_soon(sock, answer.SerializeToString())
        finally:
            self._refusals -= 1
            sock.close()


def _uid(sock: socket.socket) -> int:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])
