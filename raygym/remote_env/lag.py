"""How old things are: lags from the timing strip, corrected by the clocks' skew. Pure."""

from __future__ import annotations

from collections import deque

from raygym.core import Lag
from raygym.wire.timing import TimingMark, age_ms

_PROBE_AFTER_S = 1.0
"""An action that sends no key for this long is joined by a probe key."""
_UNANSWERED_S = 2.0
"""Inputs that the strip does not show after this long are given up."""
_VALID_S = 10.0
"""A measured action lag stands for this long."""


class LagMeter:
    """Measures the lags of one Remote.

    All times are unix seconds of the near end's clock, passed in.
    """

    def __init__(self) -> None:
        self._mark: TimingMark | None = None
        self._sent_s: deque[float] = deque()
        self._last_sent_s: float | None = None
        self._action_ms: float | None = None
        self._action_at_s = 0.0
        self._returned_s: float | None = None
        self._thinking_ms: float | None = None

    def called(self, now_s: float) -> None:
        """Notes that a step was called."""
        if self._returned_s is not None:
            self._thinking_ms = (now_s - self._returned_s) * 1000

    def returned(self, now_s: float) -> None:
        """Notes that a step returned."""
        self._returned_s = now_s

    def wants_probe(self, now_s: float) -> bool:
        """Returns whether a probe key should join an action that sends no key itself."""
        return self._mark is not None and (
            self._last_sent_s is None or now_s - self._last_sent_s >= _PROBE_AFTER_S
        )

    def sent(self, count: int, now_s: float) -> None:
        """Notes that ``count`` key events were sent."""
        self._last_sent_s = now_s
        if self._mark is not None:
            self._sent_s.extend([now_s] * count)

    def seen(self, mark: TimingMark | None, skew_s: float | None) -> None:
        """Notes the timing strip of a new frame.

        Args:
            mark: What the strip said; None where it could not be read.
            skew_s: The Remote's clock minus ours; None where it is unknown.
        """
        if mark is None:
            return
        if self._mark is not None:
            arrived = (mark.input_count - self._mark.input_count) % 256
            if 0 < arrived <= len(self._sent_s):
                for _ in range(arrived):
                    sent_s = self._sent_s.popleft()
                if skew_s is not None:
                    lag_ms = -age_ms(sent_s + skew_s, mark.input_at_ms)
                    self._action_ms = max(0.0, lag_ms)
                    self._action_at_s = sent_s
            elif arrived:
                self._sent_s.clear()
        self._mark = mark

    def lag(self, now_s: float, skew_s: float | None, reward_sent_s: float | None) -> Lag:
        """Returns the lags of a step that returns now.

        Args:
            now_s: The time now.
            skew_s: The Remote's clock minus ours; None where it is unknown.
            reward_sent_s: When the newest reward was sent, by the Remote's clock; None
                without one.
        """
        while self._sent_s and now_s - self._sent_s[0] > _UNANSWERED_S:
            self._sent_s.popleft()
        if self._action_ms is not None and now_s - self._action_at_s > _VALID_S:
            self._action_ms = None
        observation_ms = reward_ms = None
        if skew_s is not None:
            if self._mark is not None:
                observation_ms = max(0.0, age_ms(now_s + skew_s, self._mark.painted_at_ms))
            if reward_sent_s is not None:
                reward_ms = max(0.0, (now_s + skew_s - reward_sent_s) * 1000)
        return Lag(
            observation_ms=observation_ms,
            action_ms=self._action_ms,
            reward_ms=reward_ms,
            thinking_ms=self._thinking_ms,
        )


def lag_info(lag: Lag, skew_s: float | None) -> dict[str, float | None]:
    """Returns lags and the skew of clocks as an info names them, in milliseconds."""
    return {
        "reaction_time_ms": lag.reaction_ms,
        "observation_lag_ms": lag.observation_ms,
        "action_lag_ms": lag.action_ms,
        "reward_lag_ms": lag.reward_ms,
        "clock_skew_ms": None if skew_s is None else skew_s * 1000,
    }
