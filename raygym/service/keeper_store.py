"""The Store of a node, as its processes reach it: through the node's keeper."""

from __future__ import annotations

from collections.abc import Sequence

from raygym.core import Remote
from raygym.leases.protocols import Found, LeaseFile
from raygym.service.detached import DetachedActor


class KeeperStore:
    """A Store whose every call goes to the keeper of one node.

    Calls are sent again while the keeper restarts: a create that was sent twice makes one
    container. Besides what ``raygym.leases.protocols.Store`` says, each may raise
    KeeperUnreachable.

    Args:
        keeper: See ``raygym.service.keepers.keeper_of``.
        timeout_s: Longest wait for an answer, restarts included.
        create_timeout_s: Longest wait for a container to listen.
    """

    def __init__(
        self, keeper: DetachedActor, *, timeout_s: float = 30.0, create_timeout_s: float = 300.0
    ) -> None:
        self._keeper = keeper
        self._timeout_s = timeout_s
        self._create_timeout_s = create_timeout_s

    def create(
        self,
        remote_id: str,
        runtime: str,
        *,
        client_id: str,
        variant: Sequence[str],
        cluster: str,
        lease: LeaseFile,
    ) -> Remote:
        """See ``Store.create``."""
        remote: Remote = self._keeper.call(
            "create",
            remote_id,
            runtime,
            timeout_s=self._create_timeout_s,
            client_id=client_id,
            variant=tuple(variant),
            cluster=cluster,
            lease=lease,
        )
        return remote

    def adopt(self, remote_id: str) -> Remote:
        """See ``Store.adopt``."""
        remote: Remote = self._keeper.call("adopt", remote_id, timeout_s=self._timeout_s)
        return remote

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """See ``Store.write_lease``."""
        self._keeper.call("write_lease", remote_id, lease, timeout_s=self._timeout_s)

    def remove(self, remote_id: str) -> None:
        """See ``Store.remove``."""
        self._keeper.call("remove", remote_id, timeout_s=self._timeout_s)

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """See ``Store.log_tail``."""
        tail: str = self._keeper.call("log_tail", remote_id, timeout_s=self._timeout_s, lines=lines)
        return tail

    def memory_mib(self, remote_id: str) -> float | None:
        """See ``Store.memory_mib``."""
        memory: float | None = self._keeper.call("memory_mib", remote_id, timeout_s=self._timeout_s)
        return memory

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """See ``Store.survey``; holders bear the id of the keeper's node."""
        found: Sequence[Found] = self._keeper.call("survey", cluster, timeout_s=self._timeout_s)
        return found

    def close(self) -> None:
        """Does nothing: the keeper serves other processes too."""
