"""A Ray on this machine that can be ended and started anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray

from raygym.service.ray_running import ray_running


class RestartableRay:
    """Ray on this machine, which can be ended and started anew."""

    def __init__(self, actors: int) -> None:
        self._actors = actors
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Starts it; does nothing where it runs."""
        if not ray.is_initialized():
            self._stack.enter_context(ray_running(self._actors, has_dashboard=False))

    def stop(self) -> None:
        """Ends it, and all its actors."""
        self._stack.close()


@contextlib.contextmanager
def restartable_ray(actors: int) -> Iterator[RestartableRay]:
    """Starts Ray, and ends what runs at the end."""
    restartable = RestartableRay(actors)
    restartable.start()
    try:
        yield restartable
    finally:
        restartable.stop()
