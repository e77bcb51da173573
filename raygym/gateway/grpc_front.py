"""The gRPC face of a gateway: streams of raygym.v1 and dm_env_rpc, each with its own lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from raygym.core import Endpoint
from raygym.errors import ConfigError, SessionLost, StepTimeout
from raygym.gateway.config import GatewayConfig
from raygym.gateway.dialects import Dialect, DmDialect, RaygymDialect
from raygym.gateway.lines import DM_METHOD, RAYGYM_METHOD
from raygym.gateway.tenants import Tenant
from raygym.gateway.visits import House, Visit
from raygym.runtimes.lockstep.credentials import server_credentials
from raygym.runtimes.lockstep.server import METADATA

log = logging.getLogger(__name__)

CLIENT_ID_KEY = "raygym-client-id"
"""Metadata with a client's steady name."""

_DIALECTS: Mapping[str, Callable[[Visit], Dialect]] = {
    RAYGYM_METHOD: RaygymDialect,
    DM_METHOD: DmDialect,
}
_BEARER = "bearer "
_KEEPALIVE_TIMEOUT_S = 10.0
_LEAST_PING_INTERVAL_S = 5.0
_GRACE_S = 1.0
_MAX_METADATA_BYTES = 16 * 1024
_MAX_STREAMS_A_CONNECTION = 1024


class GrpcFront:
    """Serves streams until it is closed. Belongs to the event loop that started it.

    Args:
        house: What its visits have in common.
        config: Where it listens, whom it lets in.
    """

    def __init__(self, house: House, config: GatewayConfig) -> None:
        self._house = house
        self._config = config
        self._server: grpc.aio.Server | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def start(self) -> Endpoint:
        """Listens; returns where.

        Raises:
            ConfigError: It cannot listen there, or a file of TLS makes no sense.
        """
        config = self._config
        server = grpc.aio.server(
            options=_options(config),
            # Beyond this gRPC itself refuses, before anything is read.
            maximum_concurrent_rpcs=config.max_streams + 64,
        )
        server.add_generic_rpc_handlers(tuple(self._handler(method) for method in _DIALECTS))
        port = self._listen(server)
        await server.start()
        self._server = server
        return Endpoint(host=config.host, port=port, is_tls=config.tls is not None)

    async def close(self) -> None:
        """Ends all streams and gives their leases back. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(_GRACE_S)
        if self._endings:
            await asyncio.wait(set(self._endings))

    def _handler(self, full_name: str) -> grpc.GenericRpcHandler:
        service, method = full_name.strip("/").split("/")
        dialect = _DIALECTS[full_name]

        async def serve(_requests: Any, context: Any) -> None:
            await self._serve(context, full_name, dialect)

        handler: Any = grpc.stream_stream_rpc_method_handler(serve)
        return grpc.method_handlers_generic_handler(service, {method: handler})

    def _listen(self, server: grpc.aio.Server) -> int:
        config = self._config
        host = config.host.strip("[]")
        address = f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}"
        try:
            if config.tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, server_credentials(config.tls))
        except RuntimeError as error:
            raise ConfigError(
                f"the gateway cannot listen on {address}: is the port taken, or is it no address "
                "of this machine? Take another --port, or 0 for a free one"
            ) from error

    async def _serve(
        self, context: Any, method: str, open_dialect: Callable[[Visit], Dialect]
    ) -> None:
        tenant, why_not = self._tenant(context)
        if tenant is None:
            await self._abort(context, grpc.StatusCode.UNAUTHENTICATED, why_not)
            return
        tally = self._house.tally
        if tally.open >= self._config.max_streams:
            why = f"this gateway has its {self._config.max_streams} streams; come again later"
            await self._abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
            return
        tally.open += 1
        tally.opened += 1
        visit = Visit(self._house, tenant, method, _metadata(context).get(CLIENT_ID_KEY, ""))
        try:
            await context.send_initial_metadata(METADATA)
            await self._converse(context, visit, open_dialect(visit))
        finally:
            tally.open -= 1
            await self._end(visit)

    async def _converse(self, context: Any, visit: Visit, dialect: Dialect) -> None:
        """Answers requests until the client ends the stream, or its remote is lost."""
        limits = self._house.limits
        idle_s: float | None = None
        try:
            while True:
                is_leased = visit.held is not None
                idle_s = limits.idle_timeout_s if is_leased else limits.greeting_timeout_s
                request = await _read(context, visit, idle_s or None)
                if request is grpc.aio.EOF:
                    return
                await context.write(await dialect.answer(request))
        except (SessionLost, StepTimeout) as error:
            await visit.lose(error.message)
            is_late = isinstance(error, StepTimeout)
            code = grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.UNAVAILABLE
            await self._abort(context, code, error.message)
        except TimeoutError:
            await visit.give_back()
            why = f"nothing was asked for {idle_s:g} s; open another stream"
            await self._abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, why)

    def _tenant(self, context: Any) -> tuple[Tenant | None, str]:
        """Returns whose stream it is; None, and why, where it is nobody's."""
        tenants = self._config.tenants
        given = _metadata(context).get("authorization")
        if given is not None:
            token = given[len(_BEARER) :] if given.lower().startswith(_BEARER) else ""
            return tenants.of_token(token.strip() or " "), "the token is none of this gateway's"
        tenant = tenants.of_certificate(_certificate_names(context)) or tenants.of_token(None)
        return tenant, (
            "this gateway asks for a token, and none came: send the metadata "
            "`authorization: Bearer TOKEN`"
            if not tenants.takes_certificates
            else "this gateway knows nobody by the names in this certificate, and no token came"
        )

    async def _abort(self, context: Any, code: grpc.StatusCode, why: str) -> None:
        self._house.tally.refused[code.name] += 1
        await context.abort(code, why)

    async def _end(self, visit: Visit) -> None:
        """Gives back what a stream had, also where the stream was cancelled."""
        ending = asyncio.create_task(visit.give_back())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ending)


async def _read(context: Any, visit: Visit, idle_s: float | None) -> Any:
    """Returns the next request, or EOF.

    Raises:
        SessionLost: The remote of the visit was lost meanwhile.
        TimeoutError: None came in time.
    """
    loss = None if visit.held is None else visit.held.loss
    try:
        async with asyncio.timeout(idle_s) as patience:
            if loss is None:
                return await context.read()

            def cut(_loss: object) -> None:
                patience.reschedule(0.0)

            loss.add_done_callback(cut)
            try:
                return await context.read()
            finally:
                loss.remove_done_callback(cut)
    except TimeoutError:
        if loss is not None and loss.done():
            raise SessionLost(loss.result()) from None
        raise


def _metadata(context: Any) -> dict[str, str]:
    return {
        key: value.decode("latin-1") if isinstance(value, bytes) else value
        for key, value in context.invocation_metadata() or ()
    }


def _certificate_names(context: Any) -> list[str]:
    """Returns the names in a client's certificate, which TLS found good; none without one."""
    said: Mapping[str, Any] = context.auth_context()
    keys = ("x509_common_name", "x509_subject_alternative_name")
    return [name.decode("utf-8", "replace") for key in keys for name in said.get(key, ())]


def _options(config: GatewayConfig) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", _MAX_STREAMS_A_CONNECTION),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(_LEAST_PING_INTERVAL_S * 1000)),
        ("grpc.http2.max_ping_strikes", 0),
    ]
