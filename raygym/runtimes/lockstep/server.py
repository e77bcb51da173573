"""Serves conversations over gRPC, and over a unix socket beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from raygym.core import Endpoint
from raygym.errors import ConfigError, RaygymError, SessionLost
from raygym.runtimes.lockstep.conversation import Conversation
from raygym.runtimes.lockstep.credentials import server_credentials
from raygym.runtimes.lockstep.dm_service import dm_handler
from raygym.runtimes.lockstep.gate import CountedConversation, Gate, Streams
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.lockstep.local_socket import LocalSocket, choose_name

__all__ = ["LockstepServer", "RpcConfig"]

log = logging.getLogger(__name__)

_SERVICE, _METHOD = "raygym.v1.Environments", "Converse"
_KEEPALIVE_TIMEOUT_S = 20.0
_LEAST_PING_INTERVAL_S = 5.0
_CLOSE_TIMEOUT_S = 15.0

METADATA = (("raygym-version", "1"),)
"""Initial metadata of every stream, by which a client tells this server from others."""

OpenConversation = Callable[[], Awaitable[Conversation]]


class LockstepServer:
    """Serves conversations until it is closed. Belongs to the event loop that started it.

    Args:
        open_conversation: Begins one, for each stream and each connection.
        config: Where it listens, whom it lets in.
    """

    def __init__(self, open_conversation: OpenConversation, *, config: RpcConfig) -> None:
        self._open = open_conversation
        self._config = config
        self._streams = Streams(config.max_streams)
        name = choose_name(config)
        self.local_socket = Path(name).name if config.is_contained else name
        """Where framed messages are spoken; see ``Face``."""
        self._local = LocalSocket(name, open_conversation, self._streams, config)
        self._worlds = Streams(config.max_streams)
        self._server: grpc.aio.Server | None = None
        self._socket_file: Path | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()

    @property
    def streams(self) -> int:
        """How many conversations there are."""
        return self._streams.count

    async def start(self) -> Endpoint:
        """Listens; returns where gRPC is spoken.

        Raises:
            ConfigError: It cannot listen there, or a file of TLS makes no sense.
        """
        config = self._config
        self._server = grpc.aio.server(
            interceptors=[Gate(self._streams, config.token)], options=_options(config)
        )
        self._server.add_generic_rpc_handlers(self._handlers())
        self._local.start()
        try:
            endpoint = self._listen(self._server)
            await self._server.start()
        except BaseException:
            await self.close(0.0)
            raise
        log.info("lockstep.ready endpoint=%s tls=%s", endpoint, config.tls is not None)
        return endpoint

    async def close(self, grace_s: float = 2.0) -> None:
        """Ends all conversations and their environments. May be called twice.

        Args:
            grace_s: How long requests in flight may take.
        """
        server, self._server = self._server, None
        await self._local.close()
        if server is not None:
            await server.stop(grace_s)
        if self._closings:
            await asyncio.wait(set(self._closings), timeout=_CLOSE_TIMEOUT_S)
        if self._socket_file is not None:
            self._socket_file.unlink(missing_ok=True)
        self._closed.set()

    async def wait(self) -> None:
        """Returns once it is closed."""
        await self._closed.wait()

    def _handlers(self) -> tuple[Any, ...]:
        converse: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._converse
        )
        ours = grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: converse})
        return ours, dm_handler(self._open_world)

    def _listen(self, server: grpc.aio.Server) -> Endpoint:
        config = self._config
        if config.bind is None:
            assert config.directory is not None  # noqa: S101  RpcConfig has one of both
            path = config.directory / "rpc.sock"
            path.unlink(missing_ok=True)
            self._add_port(server, f"unix:{path}")
            self._socket_file = path
            return Endpoint(path=str(path))
        host = config.bind.strip("[]")
        address = f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}"
        return Endpoint(host=host, port=self._add_port(server, address))

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        try:
            if self._config.tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, server_credentials(self._config.tls))
        except RuntimeError as error:
            raise ConfigError(
                f"RpcConfig: cannot listen on {address}: {error}. Is it taken, or not an address "
                "of this machine?"
            ) from error

    async def _converse(self, _requests: Any, context: Any) -> None:
        await context.send_initial_metadata(METADATA)
        try:
            conversation = await self._open()
        except RaygymError as error:
            await context.abort(grpc.StatusCode.INTERNAL, error.message)
            return
        idle_s = self._config.idle_timeout_s
        try:
            while True:
                # An extra second leaves the conversation itself the first word.
                async with asyncio.timeout(idle_s + 1.0 if idle_s else None):
                    request = await context.read()
                if request is grpc.aio.EOF:
                    return
                await context.write(await conversation.ask(request))
        except TimeoutError:
            why = f"nothing was asked for {idle_s:g} s; open another stream"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, why)
        finally:
            await self._end(conversation)

    async def _open_world(self) -> Conversation:
        """Begins the conversation of a dm_env_rpc world, of which a stream may make several."""
        if not self._worlds.enter():
            raise SessionLost(self._worlds.refusal)
        try:
            return CountedConversation(await self._open(), self._worlds)
        except BaseException:
            self._worlds.leave()
            raise

    async def _end(self, conversation: Conversation) -> None:
        """Closes a conversation, also where its stream was cancelled."""
        closing = asyncio.create_task(conversation.close())
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(closing)


def _options(config: RpcConfig) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(_LEAST_PING_INTERVAL_S * 1000)),
        ("grpc.http2.max_ping_strikes", 0),
    ]
