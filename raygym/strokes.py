"""Actions that are over at once: a click, a drag, a key that is tapped.

Where a Flash game takes keys that are held until the next action, a web page is clicked and
typed into. An action's names say which: ``@15,80`` clicks there, ``drag`` makes one drag of the
next two places, and everything else is keys that go down together and up again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

DRAG = "drag"
"""Name of the action that makes the next two clicks one drag, which the second of them does."""

_PLACE = re.compile(r"^@(\d+),(\d+)$")

Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """The pointer is moved to a place, its left button up or down."""

    x: int
    """In pixels of the environment's region."""
    y: int
    """In pixels of the environment's region."""
    is_down: bool


@dataclass(frozen=True)
class Tap:
    """Keys go down in this order, and up again."""

    keys: Names


Motion: TypeAlias = Point | Tap


def grid_of_clicks(*, width: int, height: int, top: int, step: int) -> tuple[Names, ...]:
    """Returns one click for each cell of a grid, in its middle.

    The order is that of Universe's SoftmaxClickMouse: column by column, downwards.

    Args:
        width: Of the region, in pixels.
        height: Of the region, in pixels.
        top: First row of the grid, in pixels.
        step: Width and height of a cell, in pixels.
    """
    return tuple(
        (f"@{min(x + step // 2, width - 1)},{min(y + step // 2, height - 1)}",)
        for x in range(0, width, step)
        for y in range(top, height, step)
    )


def is_place(names: Sequence[str]) -> bool:
    """Returns whether an action's names are one place."""
    return len(names) == 1 and _PLACE.match(names[0]) is not None


class Hand:
    """Turns actions into what a hand does; it remembers where a drag is to start.

    Args:
        actions: The names of each action.
    """

    def __init__(self, actions: Sequence[Names]) -> None:
        self._actions = [tuple(names) for names in actions]
        self._is_dragging = False
        self._start: tuple[int, int] | None = None

    def motions(self, index: int) -> list[Motion]:
        """Returns what an action does, in order; nothing for the first two of a drag."""
        names = self._actions[index]
        if names == (DRAG,):
            self._is_dragging, self._start = True, None
            return []
        if not is_place(names):
            return [Tap(names)] if names else []
        x, y = (int(part) for part in names[0].removeprefix("@").split(","))
        if not self._is_dragging:
            return [Point(x, y, False), Point(x, y, True), Point(x, y, False)]
        start, self._start = self._start, (x, y)
        return [] if start is None else self._drag(start, (x, y))

    def forget(self) -> None:
        """Forgets a drag that has begun."""
        self._is_dragging, self._start = False, None

    def _drag(self, start: tuple[int, int], end: tuple[int, int]) -> list[Motion]:
        self.forget()
        (from_x, from_y), (x, y) = start, end
        # What is dragged follows moves, and some things only notice the second.
        between = Point((from_x + x) // 2, (from_y + y) // 2, True)
        pressed = [Point(from_x, from_y, False), Point(from_x, from_y, True)]
        return [*pressed, between, Point(x, y, True), Point(x, y, False)]
