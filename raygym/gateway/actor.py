"""A gateway in a process of its own: one actor on each node that serves."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import ray

from raygym.errors import RaygymError, RemoteFailedToStart
from raygym.gateway.backends import open_backend
from raygym.gateway.config import GatewayConfig
from raygym.gateway.gateway import Gateway, Listening
from raygym.gateway.leasing import OpenBackend
from raygym.gateway.status import GatewayStatus
from raygym.service.episode_log import log_as_actor

T = TypeVar("T")

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A gateway that serves."""

    node: str
    """Id of its Ray node."""
    listening: Listening
    pid: int
    """Of its process."""


class GatewayActor:
    """Runs a gateway on an event loop of its own. A plain class; ``serving`` makes it an actor.

    When the process dies, its remotes die with it, and the next one begins with none.

    Args:
        config: How it serves.
        node: Id of its Ray node.
        backends: Makes Backends; None for those that ``config`` names.
    """

    def __init__(
        self,
        config: GatewayConfig,
        node: str,
        backends: OpenBackend | None = None,
    ) -> None:
        log_as_actor()
        self._config = config
        self._node = node
        self._backends = backends or functools.partial(
            open_backend,
            backend=config.backend,
            start_timeout_s=config.limits.start_timeout_s,
            is_on_ray=ray.is_initialized(),
        )
        self._gateway: Gateway | None = None
        self._error: BaseException | None = None
        self._served: Served | None = None
        self._is_ready = threading.Event()
        # A restart after a crash gets no other call that would begin it.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="raygym gateway", daemon=True
        )
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        # Ray asks for the repr once, now.
        self._is_ready.wait(_START_TIMEOUT_S)

    def __repr__(self) -> str:
        where = "silent" if self._served is None else str(self._served.listening.grpc)
        return f"Gateway({where}, {self._config.limits.slots} slots)"

    def served(self) -> Served:
        """Returns where it listens, once it does.

        Raises:
            RaygymError: It cannot listen, or what it offers makes no sense.
        """
        is_in_time = self._is_ready.wait(_START_TIMEOUT_S)
        if isinstance(self._error, RaygymError):
            raise self._error
        if self._served is None:
            why = self._error if is_in_time else f"it took longer than {_START_TIMEOUT_S:g} s"
            raise RemoteFailedToStart(f"the gateway did not start: {why}")
        return self._served

    def status(self) -> GatewayStatus:
        """Returns what it does right now.

        Raises:
            RaygymError: It does not serve.
        """
        self.served()
        return self._run(self._status(), _ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Ends all streams and remotes. May be called twice."""
        self._run(self._close(), _CLOSE_TIMEOUT_S)

    async def _start(self) -> None:
        try:
            self._gateway = Gateway(self._config, self._backends, node=self._node)
            listening = await self._gateway.start()
            self._served = Served(node=self._node, listening=listening, pid=os.getpid())
        # Whoever asks for ``served`` must hear of it, whatever it was.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._is_ready.set()

    async def _status(self) -> GatewayStatus:
        assert self._gateway is not None  # noqa: S101  it has served
        return self._gateway.status()

    async def _close(self) -> None:
        if self._gateway is not None:
            await self._gateway.close()

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)
