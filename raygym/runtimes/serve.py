"""Serves Gymnasium environments from this process, on a thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from raygym.core import Endpoint, Secret
from raygym.errors import RaygymError, RemoteFailedToStart
from raygym.runtimes.lockstep.answers import Face
from raygym.runtimes.lockstep.conversation import (
    Conversation,
    LoopConversation,
    WorkerConversation,
)
from raygym.runtimes.lockstep.env_loop import EnvLoop
from raygym.runtimes.lockstep.factories import FactoryOrId, pickled, resolve
from raygym.runtimes.lockstep.limits import Limits, RpcConfig
from raygym.runtimes.lockstep.server import LockstepServer
from raygym.runtimes.lockstep.supervisor import WorkerSetup
from raygym.wire.framing import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from raygym.config import TlsFiles

RUNTIME = "gym-core"
"""Name of the Runtime that hosts Gymnasium's environments."""

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0


def make_server(
    factory_or_id: FactoryOrId,
    config: RpcConfig,
    *,
    limits: Limits | None = None,
    is_in_process: bool = False,
) -> LockstepServer:
    """Returns a server of Gymnasium environments, not yet started.

    Args:
        factory_or_id: See ``serve_env``.
        config: Where it listens, whom it lets in.
        limits: What a client may ask for; None takes what ``config`` says.
        is_in_process: See ``serve_env``.

    Raises:
        ConfigError: There is no such environment, or it cannot be made in another process.
    """
    factory, env_ids = resolve(factory_or_id)
    allowed = limits or Limits(max_message_bytes=config.max_message_bytes)
    data = b"" if is_in_process else pickled(factory)

    async def open_in_process() -> Conversation:
        loop = EnvLoop(
            factory,
            env_ids=env_ids,
            runtime=RUNTIME,
            limits=allowed,
            local_socket=server.local_socket,
            memory_directory=config.memory_directory,
        )
        return LoopConversation(
            loop, step_timeout_s=config.step_timeout_s, start_timeout_s=config.start_timeout_s
        )

    async def open_worker() -> Conversation:
        face = Face(runtime=RUNTIME, env_ids=env_ids, local_socket=server.local_socket)
        return WorkerConversation(
            WorkerSetup(
                factory=data,
                face=face,
                limits=allowed,
                step_timeout_s=config.step_timeout_s,
                start_timeout_s=config.start_timeout_s,
                idle_timeout_s=config.idle_timeout_s,
                memory_directory=config.memory_directory,
            )
        )

    opener: Callable[[], Awaitable[Conversation]] = (
        open_in_process if is_in_process else open_worker
    )
    server = LockstepServer(opener, config=config)
    return server


def serve_env(
    factory_or_id: FactoryOrId,
    *,
    bind: str | None = "127.0.0.1",
    port: int = 0,
    directory: Path | None = None,
    tls: TlsFiles | None = None,
    token: str | Secret | None = None,
    is_insecure: bool = False,
    is_in_process: bool = False,
    max_streams: int = 64,
    max_envs: int = 1024,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    step_timeout_s: float = 60.0,
    start_timeout_s: float = 60.0,
    idle_timeout_s: float = 0.0,
    are_kwargs_allowed: bool = True,
) -> EnvServer:
    """Serves environments in lock-step until it is closed; returns once it listens.

    Each conversation has a process of its own, so that an environment that crashes or hangs
    harms nobody else.

    Args:
        factory_or_id: An id of Gymnasium's, or several; ``*`` for whatever id a client asks
            for; ``module:function`` or ``file.py:function``; or a function that can be pickled.
            A function is called with the keyword arguments that a client gives.
        bind: Address for gRPC; None serves gRPC over a unix socket in ``directory``.
        port: TCP port; 0 takes a free one.
        directory: Private directory for sockets. Without one, clients of this machine reach it
            by a name that leaves no file behind.
        tls: Certificate and key; with an authority, clients must have certificates of it.
        token: What clients must know.
        is_insecure: Allows plaintext on other addresses than loopback.
        is_in_process: Runs environments on threads of this process: cheaper to start, but they
            can take it down, and no deadline can end them.
        max_streams: Most conversations at a time.
        max_envs: Most environments of one conversation.
        max_message_bytes: Longest message.
        step_timeout_s: Longest step; then the environment is ended and the client told.
        start_timeout_s: Longest making or reset.
        idle_timeout_s: Ends a conversation that asked nothing for so long; 0 never.
        are_kwargs_allowed: Whether clients may choose keyword arguments of the factory.

    Raises:
        ConfigError: An argument makes no sense, or the address is taken.
    """
    config = RpcConfig(
        bind=bind,
        port=port,
        directory=directory,
        token=Secret(token) if isinstance(token, str) else token,
        tls=tls,
        is_insecure=is_insecure,
        max_streams=max_streams,
        max_message_bytes=max_message_bytes,
        step_timeout_s=step_timeout_s,
        start_timeout_s=start_timeout_s,
        idle_timeout_s=idle_timeout_s,
    )
    limits = Limits(
        max_envs=max_envs,
        max_message_bytes=max_message_bytes,
        are_kwargs_allowed=are_kwargs_allowed,
    )
    server = make_server(factory_or_id, config, limits=limits, is_in_process=is_in_process)
    return EnvServer(server)


class EnvServer:
    """A server on a thread of its own; a context manager that closes it.

    Args:
        server: Not yet started.

    Raises:
        ConfigError: It cannot listen where it should.
        RemoteFailedToStart: It did not listen in time.
    """

    def __init__(self, server: LockstepServer) -> None:
        self._server = server
        self._is_ready = threading.Event()
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._endpoint: Endpoint | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="raygym serve_env", daemon=True
        )
        self._thread.start()
        is_in_time = self._is_ready.wait(_START_TIMEOUT_S)
        if self._error is not None or not is_in_time:
            self.close()
            if isinstance(self._error, RaygymError):
                raise self._error
            why = self._error or f"it did not listen within {_START_TIMEOUT_S:g} s"
            raise RemoteFailedToStart(f"serve_env: {why}") from self._error

    @property
    def endpoint(self) -> Endpoint:
        """Where gRPC is spoken."""
        assert self._endpoint is not None  # noqa: S101  __init__ waited for it
        return self._endpoint

    @property
    def local_socket(self) -> str:
        """Where framed messages are spoken; see ``Face``."""
        return self._server.local_socket

    @property
    def streams(self) -> int:
        """How many conversations there are now."""
        return self._server.streams

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is closed; returns whether it is."""
        return self._is_over.wait(timeout_s)

    def close(self) -> None:
        """Ends it with all its environments. May be called twice."""
        if self._loop is not None:
            # The loop may close by itself in between.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin_close)
        self._thread.join(_STOP_TIMEOUT_S)

    def __enter__(self) -> EnvServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _begin_close(self) -> None:
        self._closing = asyncio.ensure_future(self._server.close())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._endpoint = await self._server.start()
            self._is_ready.set()
            await self._server.wait()
        # Whatever it was, the thread that waits in __init__ must hear of it.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._is_ready.set()
            self._is_over.set()
