"""How many Remotes the environments of slots started and lost, where these live elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from raygym.core import Remote
from raygym.vector.slots import SlotReport


class Remotes(NamedTuple):
    """What one environment says of its Remotes."""

    started: int = 0
    lost: int = 0
    remote_id: str = ""
    """Of the one that it plays on; empty for an environment without one."""
    remote: Remote | None = None
    """That one, where the environment tells."""


_NONE = Remotes()


class RemoteCounts:
    """Adds up what one environment after another says of a slot.

    Args:
        num_slots: How many slots.
    """

    def __init__(self, num_slots: int) -> None:
        self._before = [_NONE] * num_slots
        self._now = [_NONE] * num_slots

    def note(self, slot: int, remotes: Remotes) -> None:
        """Takes in what the environment of now says."""
        self._now[slot] = remotes

    def gone(self, slot: int, *, is_killed: bool) -> None:
        """Notes that the environment of now is no more.

        Args:
            slot: Whose.
            is_killed: Whether its Remote, if there was one, is lost with it.
        """
        before, now = self._before[slot], self._now[slot]
        lost = now.lost + (is_killed and bool(now.remote_id))
        self._before[slot] = Remotes(before.started + now.started, before.lost + lost)
        self._now[slot] = _NONE

    def added_to(self, report: SlotReport) -> SlotReport:
        """Returns a report with the counts of its slot."""
        before, now = self._before[report.slot], self._now[report.slot]
        return replace(
            report,
            remotes_started=before.started + now.started,
            remotes_lost=before.lost + now.lost,
            remote_id=now.remote_id,
            remote=now.remote,
        )
