"""Several nodes in one process: a keeper each, and what the Registry sees of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace

from raygym.leases.protocols import Found, Holder, LeaseFile
from raygym.service.keepers import KeeperUnreachable
from raygym.service.node_keeper import NodeKeeper


class LocalKeepers:
    """The keepers of several nodes; a node in ``away`` does not answer.

    Args:
        keepers: By id of their node.
    """

    def __init__(self, keepers: dict[str, NodeKeeper]) -> None:
        self._keepers = keepers
        self.away: set[str] = set()
        """Nodes that are alive and whose keepers do not answer."""
        self.dead: set[str] = set()
        """Nodes that are gone."""
        self.surveys: list[str] = []
        """Nodes that were surveyed, in order."""
        self.on_survey: Callable[[], None] = lambda: None
        """Called with each survey."""

    def nodes(self) -> Sequence[str]:
        return [node for node in self._keepers if node not in self.dead]

    def survey(self, node: str) -> Sequence[Found]:
        self.surveys.append(node)
        self.on_survey()
        return self._reach(node).survey(None)

    def remove(self, node: str, remote_id: str) -> None:
        self._reach(node).remove(remote_id)

    def is_dead(self, holder: Holder) -> bool:
        return self._reach(holder.node).is_dead(holder)

    def _reach(self, node: str) -> NodeKeeper:
        if node in self.away | self.dead:
            raise KeeperUnreachable(f"{node} does not answer")
        return self._keepers[node]


def living(node: str) -> Holder:
    """Returns a holder that lives: this process."""
    return replace(Holder.this_process(), node=node)


def ended(node: str) -> Holder:
    """Returns a holder that has ended."""
    with subprocess.Popen(["sleep", "600"]) as process:
        here = Holder.this_process()
        holder = replace(here, node=node, pid=process.pid, started_ticks=0)
        process.kill()
    return holder


def other(node: str) -> Holder:
    """Returns another holder that lives: the parent of this process."""
    return replace(Holder.this_process(), node=node, pid=os.getppid(), started_ticks=0)


def lease_file(
    expires_s: float, *, token: int = 1, client_id: str = "a", holder: Holder | None = None
) -> LeaseFile:
    """Returns what stands beside a container of flashgames."""
    return LeaseFile(
        token=token,
        client_id=client_id,
        runtime="flashgames",
        holder=None if holder is None else dict(vars(holder)),
        expires_unix_s=expires_s,
        keep_s=60.0,
    )
