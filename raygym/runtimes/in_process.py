"""A Remote on a thread of this process, for ``FakeBackend``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

from raygym.errors import RemoteFailedToStart
from raygym.runtimes.host import Host, HostConfig
from raygym.runtimes.launch import make_host

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0


class InProcessHost:
    """Runs one Host on a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._host: Host | None = None
        self._is_ready = threading.Event()
        self._error: BaseException | None = None

    def start(self, runtime: str, directory: Path, password: str) -> None:
        """Starts it; it listens on unix sockets in ``directory`` on return.

        Raises:
            RemoteFailedToStart: It did not get that far; the cause is chained.
        """
        config = HostConfig(directory=directory, password=password, idle_timeout_s=0)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(runtime, config)),
            name=f"{runtime} {directory.name}",
            daemon=True,
        )
        self._thread.start()
        is_in_time = self._is_ready.wait(_START_TIMEOUT_S)
        if self._error is not None or not is_in_time:
            why = self._error or f"not ready within {_START_TIMEOUT_S:g} s"
            self.stop()
            raise RemoteFailedToStart(
                f"{runtime} in {directory} did not start: {why}"
            ) from self._error

    def stop(self) -> None:
        """Ends it, with all its connections. May be called twice."""
        if self._thread is None:
            return
        if self._loop is not None and self._host is not None and not self._loop.is_closed():
            # The loop may close by itself in between.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._host.stop)
        self._thread.join(_STOP_TIMEOUT_S)

    async def _run(self, runtime: str, config: HostConfig) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._host = make_host(runtime, config)
            running = asyncio.create_task(self._host.run())
            ready = asyncio.create_task(self._host.is_ready.wait())
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if running.done():
                running.result()
            self._is_ready.set()
            await running
        # Whatever it was, the thread that waits in start() must hear of it.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._is_ready.set()
