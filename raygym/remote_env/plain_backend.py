"""What a Backend answers that knows no leases, no wear and no logs."""

from __future__ import annotations


class PlainBackend:
    """The part of ``raygym.core.Backend`` that most have nothing to say to."""

    def lease_id(self, remote_id: str) -> str:
        """Returns an empty string: nothing is leased here."""
        del remote_id
        return ""

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        """Returns False: nothing here wears out."""
        del remote_id, steps, seconds
        return False

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns an empty string: the log is where the Remote runs."""
        del remote_id, lines
        return ""
