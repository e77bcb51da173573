"""A gateway: leases, the gRPC front and, where it is asked for, the HTTP front, on one loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raygym.core import Endpoint
from raygym.gateway.admission import Admission
from raygym.gateway.config import GatewayConfig
from raygym.gateway.grpc_front import GrpcFront
from raygym.gateway.leasing import Leasing, OpenBackend
from raygym.gateway.offers import Offers
from raygym.gateway.status import GatewayStatus
from raygym.gateway.stream_tally import StreamTally
from raygym.gateway.visits import House

if TYPE_CHECKING:
    from raygym.gateway.http_front import HttpFront

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where a gateway listens."""

    grpc: Endpoint
    http_port: int | None = None
    """On the interface of ``GatewayConfig.http``; None without HTTP."""


class Gateway:
    """Serves clients until it is closed. Belongs to the event loop that started it.

    Args:
        config: Where it listens, whom it lets in, what it offers.
        open_backend: Makes Backends of remotes; called on a thread.
        node: Where it runs, for its status.

    Raises:
        ConfigError: An environment that is offered is unknown.
    """

    def __init__(self, config: GatewayConfig, open_backend: OpenBackend, *, node: str = "") -> None:
        self.config = config
        limits = config.limits
        self.leasing = Leasing(
            open_backend,
            Admission(limits.slots, max_waiting=limits.max_waiting),
            queue_timeout_s=limits.queue_timeout_s,
            keep_s=limits.keep_s,
            node=node,
        )
        self.house = House(
            leasing=self.leasing,
            offers=Offers(config.env_ids),
            limits=limits,
            tally=StreamTally(),
            max_request_bytes=config.max_request_bytes,
        )
        self._front = GrpcFront(self.house, config)
        self._http: HttpFront | None = None
        if config.http is not None:
            from raygym.gateway.http_front import HttpFront

            self._http = HttpFront(
                self.leasing,
                config.tenants,
                config.http,
                offers=self.house.offers,
                status=self.status,
            )

    async def start(self) -> Listening:
        """Listens; returns where.

        Raises:
            ConfigError: It cannot listen there, or a file of TLS makes no sense.
        """
        self.leasing.start()
        try:
            endpoint = await self._front.start()
            http_port = None if self._http is None else await self._http.start()
        except BaseException:
            await self.close()
            raise
        log.info("gateway.ready endpoint=%s slots=%d", endpoint, self.config.limits.slots)
        return Listening(grpc=endpoint, http_port=http_port)

    def status(self) -> GatewayStatus:
        """Returns what it does right now."""
        return replace(self.leasing.status(), streams=self.house.tally.counts())

    async def close(self) -> None:
        """Ends all streams and remotes. May be called twice."""
        if self._http is not None:
            await self._http.close()
        await self._front.close()
        await self.leasing.close()
