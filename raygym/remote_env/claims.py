"""How long an environment waited for its Remotes, and what became of those before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


class Claims:
    """Times claims; the first info of an episode on a new Remote tells of them.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = 0.0
        self._causes: list[str] = []
        self._news: dict[str, Any] = {}

    def gone(self, cause: str) -> None:
        """Notes that a Remote has to be replaced.

        Args:
            cause: ``infra_failure``, ``preempted``, ``worn`` or ``start_failed``.
        """
        self._causes.append(cause)

    def begin(self) -> None:
        """Notes that a Remote is asked for now."""
        self._began_s = self._clock()

    def done(self) -> None:
        """Notes that it has answered now."""
        self._news = {
            "claim_s": self._clock() - self._began_s,
            "claim_causes": ",".join(self._causes),
        }
        self._causes = []

    def news(self) -> Mapping[str, Any]:
        """Returns what an info is to say of the newest claim; empty where it was told already.

        Returns:
            ``claim_s``: how long it took, in seconds; ``claim_causes``: what became of the
            Remotes since the claim before, joined by commas.
        """
        news, self._news = self._news, {}
        return news
