"""What falls in a straight line while a learner learns: step sizes, weights of a bonus."""

from __future__ import annotations


def annealed(first: float, last: float, done: int, until: int | None) -> float:
    """Returns a value between two that is passed through in a straight line.

    Args:
        first: Where it starts.
        last: Where it stays from ``until`` on.
        done: How far the learner is, in the unit of ``until``; not negative.
        until: When ``last`` is reached; None for never, which leaves ``first``.
    """
    share = 0.0 if until is None else min(1.0, done / until)
    return first + share * (last - first)
