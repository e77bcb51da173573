"""A gateway in this process, on a loop of its own."""

from __future__ import annotations

from typing import Any

from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.gateway import Gateway
from raygym.gateway.leasing import OpenBackend, Wanted
from raygym.gateway.status import GatewayStatus
from raygym.gateway.tenants import Tenants
from raygym.remote_env.process_backend import ProcessBackend
from tests.support.loop_thread import LoopThread


def processes(wanted: Wanted) -> ProcessBackend:
    """Remotes as processes, as a gateway starts them."""
    return ProcessBackend(arguments=("--mode", wanted.mode, "--env", wanted.env_id))


class GatewayThread:
    """Serves on 127.0.0.1 until it is closed.

    Args:
        open_backend: Where remotes come from.
        limits: Of leases.
        options: More of GatewayConfig.
    """

    def __init__(
        self,
        open_backend: OpenBackend = processes,
        *,
        limits: LeaseLimits | None = None,
        **options: Any,
    ) -> None:
        config = GatewayConfig(
            tenants=options.pop("tenants", Tenants(is_open=True)),
            limits=limits or LeaseLimits(slots=2, keep_s=5.0),
            **options,
        )
        self._thread = LoopThread()
        self.gateway = Gateway(config, open_backend, node="test")
        try:
            self.listening = self._thread.run(self.gateway.start())
            self.endpoint = self.listening.grpc
        except BaseException:
            self._thread.close()
            raise

    @property
    def address(self) -> str:
        """As gRPC wants it."""
        return f"127.0.0.1:{self.endpoint.port}"

    def status(self) -> GatewayStatus:
        """What the gateway does right now."""

        async def ask() -> GatewayStatus:
            return self.gateway.status()

        return self._thread.run(ask())

    def close(self) -> None:
        """Ends it."""
        try:
            self._thread.run(self.gateway.close(), timeout_s=60)
        finally:
            self._thread.close()

    def __enter__(self) -> GatewayThread:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
