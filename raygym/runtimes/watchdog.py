"""Tells a page that hangs from one that is well; the caller passes the time in."""

from __future__ import annotations

PING_EVERY_S = 1.0
"""How often the page is asked whether it is there."""
_SILENCE_MAX_S = 3.5
_ANSWER_MAX_S = 3.0
_BUSY_FACTOR = 5.0


class Watchdog:
    """Counts the time since the page gave its signs of life.

    The page says each half second that its animation runs, and how many frames the game
    has counted. A game that has counted one in an episode is held to go on with it.

    Args:
        now_s: The time, in seconds of any steady clock; also in every method.
    """

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._frame_s: float | None = None
        self._frames = 0

    def begin_episode(self, now_s: float) -> None:
        """Starts anew for an episode that runs from now on."""
        self._heard_s = now_s
        self._frame_s = None
        self._frames = 0

    def heard(self, now_s: float, *, frames: int | None = None) -> None:
        """Notes a message of the page, and the frames of this episode where it tells them."""
        self._heard_s = now_s
        if frames is not None and frames != self._frames:
            self._frames = frames
            self._frame_s = now_s

    def forgive(self, now_s: float) -> None:
        """Counts from now on, after the watcher itself stood still."""
        self._heard_s = now_s
        if self._frame_s is not None:
            self._frame_s = now_s

    @staticmethod
    def patience_s(is_running: bool) -> float:
        """Returns how long the page may take to answer; longer while it loads a game."""
        return _ANSWER_MAX_S * (1.0 if is_running else _BUSY_FACTOR)

    def problem(self, now_s: float, *, is_running: bool) -> str | None:
        """Returns what is wrong, in words, or None if all is well."""
        silence_max_s = _SILENCE_MAX_S * (1.0 if is_running else _BUSY_FACTOR)
        if now_s - self._heard_s > silence_max_s:
            return f"the page's animation stood still for {now_s - self._heard_s:.1f} s"
        if is_running and self._frame_s is not None and now_s - self._frame_s > silence_max_s:
            return f"the game showed no frame for {now_s - self._frame_s:.1f} s"
        return None
