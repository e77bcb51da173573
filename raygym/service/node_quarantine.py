"""Which nodes are left alone for a while, because what is started there keeps failing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

STRIKES = 3
FIRST_S = 60.0
LONGEST_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A node or a slot that is left alone."""

    kind: str
    """``node`` or ``slot``."""
    name: str
    """Id of the node, or number of the slot."""
    failures: int
    """In a row."""
    left_s: float | None
    """For how much longer; None for a slot, which is tried on now and then."""
    error: str
    """The last failure, with the end of the log where there is one."""


@dataclass
class _Record:
    strikes: int = 0
    sentences: int = 0
    until_s: float = 0.0
    error: str = ""


class NodeQuarantine:
    """Counts failures by node. Pure; time is given, in seconds that only grow."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Record] = {}

    def note_failure(self, node: str, error: str, now_s: float) -> None:
        """Counts a failure on a node; the third in a row puts it in quarantine.

        Args:
            node: Its id; an empty one is ignored.
            error: What failed.
            now_s: When.
        """
        if not node:
            return
        record = self._nodes.setdefault(node, _Record())
        record.strikes += 1
        record.error = error
        if record.strikes >= STRIKES and now_s >= record.until_s:
            pause_s = min(LONGEST_S, FIRST_S * 2.0**record.sentences)
            record.sentences += 1
            record.until_s = now_s + pause_s
            log.error(
                "node.quarantined node=%s failures=%d seconds=%.0f error=%s",
                *(node, record.strikes, pause_s, error),
            )

    def note_success(self, node: str) -> None:
        """Forgets the failures of a node that delivered."""
        self._nodes.pop(node, None)

    def holds(self, node: str, now_s: float) -> bool:
        """Returns whether a node is to be left alone now."""
        record = self._nodes.get(node)
        return record is not None and now_s < record.until_s

    def choose(self, nodes: Iterable[str], load: Mapping[str, int], now_s: float) -> str | None:
        """Returns the node with the least actors that is not in quarantine.

        Args:
            nodes: Ids of those that live, in a steady order.
            load: Actors on each.
            now_s: When.

        Returns:
            Where all are in quarantine, the one whose time is over first; None for no nodes.
        """
        known = list(nodes)
        if not known:
            return None
        free = [node for node in known if not self.holds(node, now_s)]
        if not free:
            return min(known, key=lambda node: self._nodes[node].until_s)
        return min(free, key=lambda node: load.get(node, 0))

    def rows(self, now_s: float) -> list[Quarantined]:
        """Returns the nodes in quarantine."""
        return [
            Quarantined(
                kind="node",
                name=node,
                failures=record.strikes,
                left_s=record.until_s - now_s,
                error=record.error,
            )
            for node, record in self._nodes.items()
            if now_s < record.until_s
        ]
