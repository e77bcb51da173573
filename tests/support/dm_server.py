"""A dm_env_rpc server in this process, on environments of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import gymnasium

from raygym.runtimes.lockstep.conversation import LoopConversation
from raygym.runtimes.lockstep.dm_service import dm_handler
from raygym.runtimes.lockstep.env_loop import EnvLoop
from tests.support.loop_thread import LoopThread


class DmServer:
    """Speaks dm_env_rpc on a port of 127.0.0.1 until it is closed.

    Args:
        factory: Makes an environment of an id and keyword arguments.
        env_ids: What a client may ask for.
    """

    def __init__(
        self,
        factory: Callable[[str, Mapping[str, Any]], gymnasium.Env[Any, Any]],
        env_ids: Sequence[str] = (),
    ) -> None:
        self._factory = factory
        self._env_ids = env_ids
        self._thread = LoopThread()
        self.open_worlds = 0
        self._lock = threading.Lock()
        self.port = self._thread.run(self._start())

    @property
    def address(self) -> str:
        """Where it listens, as gRPC wants it."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> DmServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its streams and worlds."""
        self._thread.run(self._stop())
        self._thread.close()

    async def _start(self) -> int:
        self._handler = dm_handler(self._open)
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._handler,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def _stop(self) -> None:
        await self._server.stop(0.5)
        await self._handler.close()

    async def _open(self) -> LoopConversation:
        self.open_worlds += 1
        server = self

        class Counted(LoopConversation):
            async def close(self) -> None:
                if not self._is_closed:
                    server.open_worlds -= 1
                await super().close()

        return Counted(EnvLoop(self._factory, env_ids=self._env_ids))
