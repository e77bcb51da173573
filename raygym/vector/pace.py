"""Whether a slot has become slow."""

from __future__ import annotations

from statistics import median

_STEPS = 20
"""How many steps a mean is taken over; none is judged before it has taken as many."""


class PaceWatch:
    """Compares the mean time of a slot's last steps with that of the others.

    Where fewer than two others have a mean, it is compared with its own first one.

    Args:
        slow_factor: How many times as long a slot may take; None for any.
    """

    def __init__(self, slow_factor: float | None) -> None:
        self._factor = slow_factor
        self._sums: dict[int, tuple[int, float]] = {}
        self._means: dict[int, float] = {}
        self._first: dict[int, float] = {}

    def note(self, slot: int, seconds: float) -> str:
        """Notes how long a step took; returns why the slot is too slow, or an empty string."""
        if self._factor is None:
            return ""
        count, total = self._sums.get(slot, (0, 0.0))
        count, total = count + 1, total + seconds
        if count < _STEPS:
            self._sums[slot] = (count, total)
            return ""
        self._sums[slot] = (0, 0.0)
        self._means[slot] = mean_s = total / count
        first_s = self._first.setdefault(slot, mean_s)
        others = [value for other, value in self._means.items() if other != slot]
        usual_s, whose = (median(others), "the others") if len(others) > 1 else (first_s, "it")
        if mean_s <= self._factor * usual_s:
            return ""
        return (
            f"slow: a step took {mean_s * 1e3:.1f} ms over the last {count}, and {whose} took "
            f"{usual_s * 1e3:.1f} ms{' at first' if whose == 'it' else ''}"
        )

    def forget(self, slot: int) -> None:
        """Forgets a slot whose environment is made anew."""
        self._sums.pop(slot, None)
        self._means.pop(slot, None)
        self._first.pop(slot, None)
