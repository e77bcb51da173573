"""The Registry as processes of a Ray cluster reach it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from raygym.errors import ConfigError, LeaseError
from raygym.leases.protocols import Holder, Lease, Store, Want
from raygym.service.detached import DetachedActor, get_or_make
from raygym.service.keepers import RayKeepers
from raygym.service.registry import RegistryActor

NAME = "raygym-registry"
_THREADS = 32
_GRANT_TIMEOUT_S = 60.0
"""A grant may have to wait for a keeper, which it may have to start."""


class RegistryUnreachable(LeaseError):
    """The Registry gave no answer in time; whether it acted is not known."""


class RayRegistry:
    """Leases of a whole Ray cluster, kept by one detached actor that is made where there is none.

    All calls are sent again while the actor restarts. Besides what
    ``raygym.leases.protocols.Registry`` says, each may raise RegistryUnreachable. The node of a
    Holder is the id of its Ray node.

    Args:
        store_factory: Makes the Store of a node; must pickle. An actor that is there keeps its
            own.
        cluster: Name that the containers bear.
        timeout_s: Longest wait for an answer, restarts included.
    """

    def __init__(
        self,
        store_factory: Callable[[], Store],
        *,
        cluster: str,
        timeout_s: float = 30.0,
    ) -> None:
        self.cluster = cluster
        self._timeout_s = timeout_s
        self._is_checked = False
        self._actor = DetachedActor(
            NAME,
            lambda: get_or_make(
                RegistryActor,
                NAME,
                functools.partial(RayKeepers, store_factory, cluster),
                cluster,
                threads=_THREADS,
            ),
            RegistryUnreachable,
        )

    def grant(self, want: Want) -> Lease:
        """See ``Registry.grant`` and ``RegistryActor.grant``.

        Raises:
            ConfigError: The registry of this Ray keeps the leases of another cluster.
        """
        self._check()
        lease: Lease = self._call("grant", want, timeout_s=_GRANT_TIMEOUT_S)
        return lease

    def confirm(self, lease: Lease) -> None:
        """See ``Registry.confirm``."""
        self._call("confirm", lease)

    def renew(self, lease: Lease) -> Lease:
        """See ``Registry.renew``."""
        row: Lease = self._call("renew", lease)
        return row

    def rebind(self, lease: Lease, env_id: str) -> Lease:
        """See ``Registry.rebind``."""
        row: Lease = self._call("rebind", lease, env_id)
        return row

    def release(self, lease: Lease) -> Lease | None:
        """See ``Registry.release``."""
        row: Lease | None = self._call("release", lease)
        return row

    def forget(self, remote_id: str, token: int) -> None:
        """See ``Registry.forget``."""
        self._call("forget", remote_id, token)

    def rows(self) -> Sequence[Lease]:
        """See ``Registry.rows``."""
        rows: Sequence[Lease] = self._call("rows")
        return rows

    def add_spare(
        self, runtime: str, variant: tuple[str, ...], holder: Holder, ttl_s: float
    ) -> Lease:
        """See ``Registry.add_spare``."""
        self._check()
        row: Lease = self._call(
            "add_spare", runtime, variant, holder, ttl_s, timeout_s=_GRANT_TIMEOUT_S
        )
        return row

    def expire(self) -> Sequence[Lease]:
        """See ``RegistryActor.expire``: the containers are removed already."""
        rows: Sequence[Lease] = self._call("expire")
        return rows

    def _check(self) -> None:
        if self._is_checked:
            return
        theirs = self._call("keeps", timeout_s=_GRANT_TIMEOUT_S)
        if theirs != self.cluster:
            raise ConfigError(
                f"RAYGYM_CLUSTER: the registry of this Ray keeps the leases of {theirs!r}, and "
                f"this process says {self.cluster!r}; set it to the same everywhere"
            )
        self._is_checked = True

    def _call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        return self._actor.call(method, *arguments, timeout_s=timeout_s or self._timeout_s)
