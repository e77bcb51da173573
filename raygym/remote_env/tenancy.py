"""How long a Remote is this process's, and when it is worn: asked of its backend now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from raygym.core import Backend

_LOOK_EVERY_S = 1.0


class Tenancy:
    """The use of one Remote by one environment.

    Args:
        backend: That it came from.
        remote_id: Its name.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, backend: Backend, remote_id: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._remote_id = remote_id
        self.lease_id = backend.lease_id(remote_id)
        """The lease that holds it; empty where nothing is leased."""
        self._clock = clock
        self._look_at_s = clock() + _LOOK_EVERY_S
        self._began_at_s = clock()

    def lost(self) -> str:
        """Returns why the Remote is no longer this process's; empty while it is.

        It asks at most once a second, so that it may be called with every step.
        """
        now_s = self._clock()
        if now_s < self._look_at_s:
            return ""
        self._look_at_s = now_s + _LOOK_EVERY_S
        if self._backend.holds(self._remote_id):
            return ""
        return f"the lease of {self._remote_id} was lost: it was not renewed, or was taken away"

    def begin_episode(self) -> None:
        """Notes that an episode begins now."""
        self._began_at_s = self._clock()

    def is_worn_after(self, steps: int) -> bool:
        """Notes that the episode is over; returns whether the Remote is to be replaced.

        Args:
            steps: Of the episode; 0 for one that never began, which counts for nothing.
        """
        if not steps:
            return False
        seconds = self._clock() - self._began_at_s
        return self._backend.note_episode(self._remote_id, steps, seconds)
