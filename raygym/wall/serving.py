"""Serves the wall beside something else, such as a run that is trained in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from raygym.wall.hub import Door
from raygym.wall.server import Screens, WallConfig, WallServer

_TIMEOUT_S = 15.0


class WallThread:
    """A wall on an event loop of its own.

    Args:
        door: The hub: ``RayHub()`` for this Ray cluster's.
        screens: The way to the remotes: ``RayScreens()``.
        config: Where it listens, and who may look.
    """

    def __init__(self, door: Door, screens: Screens, config: WallConfig) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wall", daemon=True)
        self._thread.start()
        self._server: WallServer | None = None
        try:
            self._server = self._run(_started(door, screens, config))
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where a browser finds it, without the token."""
        return "" if self._server is None else self._server.url

    def close(self) -> None:
        """Ends it; may be called twice."""
        if self._loop.is_closed():
            return
        try:
            if self._server is not None:
                asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(_TIMEOUT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_TIMEOUT_S)
            self._loop.close()

    def _run(self, starting: Coroutine[Any, Any, WallServer]) -> WallServer:
        return asyncio.run_coroutine_threadsafe(starting, self._loop).result(_TIMEOUT_S)


async def _started(door: Door, screens: Screens, config: WallConfig) -> WallServer:
    server = WallServer(door, screens, config)
    await server.start()
    return server
