"""A thread that owns one environment, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class EnvThread:
    """Runs calls one after the other on a daemon thread.

    A call that never returns holds up neither the event loop nor the end of the process.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *args: Any, timeout_s: float) -> T:
        """Calls it there; raises what it raises.

        Raises:
            TimeoutError: It took longer than that; it may still go on.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

        def call() -> None:
            result: tuple[T | None, BaseException | None]
            try:
                result = function(*args), None
            # An environment may raise anything, SystemExit too; all of it belongs to the caller.
            except BaseException as error:  # noqa: BLE001
                result = None, error
            # The loop may be gone by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_set, done, result)

        self._calls.put(call)
        async with asyncio.timeout(timeout_s):
            value, error = await done
        if error is not None:
            raise EnvRaised(error) from error
        return value  # type: ignore[return-value]

    def end(self) -> None:
        """Ends the thread after the calls made so far; does not wait for it."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class EnvRaised(Exception):
    """What was called raised ``error``, which may be of any class."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


def _set(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
