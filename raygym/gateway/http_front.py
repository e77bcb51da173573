"""The HTTP side of a gateway: Universe's allocator API, a status page, probes and figures.

::

    GET    /                           status page
    GET    /healthz                    "ok": for probes, without a token
    GET    /metrics                    for Prometheus
    POST   /v1/allocations             ask for remotes
    GET    /v1/allocations/{client}    look at them
    POST   /v1/allocations/{client}    say that they are wanted still
    DELETE /v1/allocations/{client}    give them back; name=... for some, whole=0 for broken ones
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from raygym.config import TlsFiles, check_range
from raygym.errors import ConfigError, LeaseError, RaygymError
from raygym.gateway.admission import Exhausted
from raygym.gateway.allocation_request import check_client, check_names, parse_request
from raygym.gateway.allocator import Allocation, Allocator
from raygym.gateway.http_access import check_exposure, tenant_of, tls_context
from raygym.gateway.http_metrics import CONTENT_TYPE, GatewayMetrics
from raygym.gateway.leasing import Leasing
from raygym.gateway.offers import Offers
from raygym.gateway.status import GatewayStatus
from raygym.gateway.status_page import STYLE_HASH, status_page
from raygym.gateway.tenants import Tenant, Tenants
from raygym.machine import is_loopback

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 1 << 16
_STOP_TIMEOUT_S = 2.0
_TENANT = web.RequestKey("tenant", Tenant)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """How a gateway is served over HTTP."""

    host: str = "127.0.0.1"
    """Interface, also of the ports of remotes."""
    port: int = 0
    """TCP port; 0 takes a free one."""
    advertise: str = ""
    """Host that clients are told to dial remotes at; empty: the one by which they asked."""
    forward_ports: tuple[int, int] | None = None
    """First and last port that remotes may be reached at, two for each in real time; None takes
    any."""
    ttl_s: float = 60.0
    """How long an allocation lives without a sign of its client. Universe's clients ask every
    20 s at the latest."""
    answer_wait_s: float = 1.0
    """How long an answer about allocations waits for remotes that are not there yet."""
    tls: TlsFiles | None = None
    """Certificate and key of HTTPS, and the authority of clients' certificates; the ports of
    remotes speak no TLS."""
    is_insecure: bool = False
    """Whether plaintext is allowed on other interfaces than loopback."""

    def __post_init__(self) -> None:
        check_range("HttpConfig", "port", self.port, 0, 65_535)
        check_range("HttpConfig", "ttl_s", self.ttl_s, 1, 86_400)
        check_range("HttpConfig", "answer_wait_s", self.answer_wait_s, 0, 30)
        if self.forward_ports is not None:
            first, last = self.forward_ports
            if not 0 < first <= last <= 65_535:
                raise ConfigError(
                    f"HttpConfig.forward_ports: expected two ports in order, got {first} and {last}"
                )

    @property
    def ports(self) -> Sequence[int]:
        """Ports that remotes may be reached at; none means any."""
        if self.forward_ports is None:
            return ()
        return range(self.forward_ports[0], self.forward_ports[1] + 1)


class HttpFront:
    """Serves one gateway over HTTP; belongs to one event loop.

    Args:
        leasing: Leases the remotes; it stays open.
        tenants: Who may come in.
        config: Where it listens.
        offers: What clients may ask for; None for everything.
        status: What the gateway does right now; None takes what ``leasing`` knows.

    Raises:
        ConfigError: It would be open to others, or a file of TLS makes no sense.
    """

    def __init__(
        self,
        leasing: Leasing,
        tenants: Tenants,
        config: HttpConfig | None = None,
        *,
        offers: Offers | None = None,
        status: Callable[[], GatewayStatus] | None = None,
    ) -> None:
        self._config = config = config or HttpConfig()
        self._tenants = tenants
        self._offers = offers or Offers()
        self._status = status or leasing.status
        self._started_s = time.monotonic()
        check_exposure(
            config.host, tenants, has_tls=config.tls is not None, is_insecure=config.is_insecure
        )
        self._tls: ssl.SSLContext | None = None
        if config.tls is not None:
            self._tls = tls_context(config.tls, takes_certificates=tenants.takes_certificates)
        self.allocator = Allocator(
            leasing, host=config.host, ports=config.ports, ttl_s=config.ttl_s
        )
        self.metrics = GatewayMetrics(self._status, self.allocator)
        self._runner: web.AppRunner | None = None
        self._is_closing = False

    async def start(self) -> int:
        """Begins to serve; returns the port.

        Raises:
            ConfigError: The port is taken, or the interface is none of this machine.
        """
        runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=_STOP_TIMEOUT_S
        )
        await runner.setup()
        config = self._config
        site = web.TCPSite(runner, config.host, config.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"HTTP: cannot listen on {config.host}:{config.port}: {error.strerror}"
            ) from error
        self._runner = runner
        self.allocator.start()
        port: int = runner.addresses[0][1]
        log.info("gateway.http host=%s port=%d tls=%s", config.host, port, bool(self._tls))
        return port

    def drain(self) -> None:
        """Lends nothing more, and says so to probes; what is lent stays lent."""
        self._is_closing = True

    async def close(self) -> None:
        """Gives all allocations back and ends serving. May be called twice."""
        self.drain()
        await self.allocator.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def application(self) -> web.Application:
        """Returns the routes, for a server or a test of one's own."""
        application = web.Application(
            middlewares=[self._observed, self._admitted], client_max_size=_MAX_BODY_BYTES
        )
        client = "/v1/allocations/{client}"
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.post("/v1/allocations", self._create),
                web.get(client, self._look),
                web.post(client, self._refresh),
                web.delete(client, self._delete),
            ]
        )
        return application

    @web.middleware
    async def _observed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Times a request, and turns what was raised into an answer."""
        began_s = time.monotonic()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _refusal(error.status, error.reason)
        except RaygymError as error:
            response = _refusal(_status_of(error), error.message)
        response.headers.update(_HEADERS)
        resource = request.match_info.route.resource
        route = "other" if resource is None else resource.canonical
        self.metrics.answered(route, response.status, time.monotonic() - began_s)
        return response

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets in who has a token, and no page of another site."""
        if not self._is_own_host(request):
            return _refusal(421, f"this gateway is not called {request.host}")
        if request.path == "/healthz":
            return await handler(request)
        transport = request.transport
        certificate = None if transport is None else transport.get_extra_info("peercert")
        tenant = tenant_of(self._tenants, request.headers.get("Authorization"), certificate)
        if tenant is None:
            refusal = _refusal(401, "a token is needed: as user of Basic authorization, or Bearer")
            refusal.headers["WWW-Authenticate"] = 'Basic realm="raygym", charset="UTF-8"'
            return refusal
        if request.method == "POST" and request.content_type != "application/json":
            return _refusal(415, "expected Content-Type: application/json")
        request[_TENANT] = tenant
        return await handler(request)

    def _is_own_host(self, request: web.Request) -> bool:
        """Without tokens, a name that leads here by a foreign DNS is another site's trick."""
        host = _host_of(request)
        is_own = is_loopback(host) or (host != "" and host == self._config.advertise)
        return is_own or not self._tenants.is_open

    async def _page(self, _request: web.Request) -> web.Response:
        page = status_page(
            self._status(),
            self.allocator.allocations(),
            now_s=self.allocator.now_s(),
            up_s=time.monotonic() - self._started_s,
        )
        return web.Response(text=page, content_type="text/html", charset="utf-8")

    async def _health(self, _request: web.Request) -> web.Response:
        if self._is_closing:
            return web.Response(text="closing\n", status=503)
        return web.Response(text="ok\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _create(self, request: web.Request) -> web.Response:
        if self._is_closing:
            return _refusal(503, "this gateway is being stopped")
        wanted = parse_request(await _json(request), self._offers)
        found = self.allocator.create(request[_TENANT], wanted)
        allocations = [allocation for allocation, _ in found]
        await self.allocator.settle(allocations, self._config.answer_wait_s)
        return self._answer(request, allocations, info=[{"new": is_new} for _, is_new in found])

    async def _look(self, request: web.Request) -> web.Response:
        return self._answer(request, self.allocator.of(request[_TENANT], _client(request)))

    async def _refresh(self, request: web.Request) -> web.Response:
        tenant, client = request[_TENANT], _client(request)
        names = check_names(await _json(request))
        found = self.allocator.refresh(tenant, client, names)
        await self.allocator.settle(found, self._config.answer_wait_s)
        return self._answer(request, self.allocator.refresh(tenant, client, names))

    async def _delete(self, request: web.Request) -> web.Response:
        found = await self.allocator.delete(
            request[_TENANT],
            _client(request),
            request.query.getall("name", None),
            is_whole=request.query.get("whole", "1") != "0",
        )
        return self._answer(request, found)

    def _answer(
        self,
        request: web.Request,
        allocations: Sequence[Allocation],
        *,
        info: Sequence[dict[str, bool]] | None = None,
    ) -> web.Response:
        host = self._config.advertise or _host_of(request) or self._config.host
        return web.json_response(
            {
                "env_n": [self._entry(allocation, host) for allocation in allocations],
                "info": {
                    "n": info or [{"new": False} for _ in allocations],
                    "ttl_s": self.allocator.ttl_s,
                },
            }
        )

    def _entry(self, allocation: Allocation, host: str) -> dict[str, Any]:
        name = f"[{host}]" if ":" in host else host
        entry: dict[str, Any] = {
            "name": allocation.name,
            "handle": allocation.handle,
            "status": allocation.status,
            "detail": self.allocator.position(allocation),
            # Nothing is recorded here.
            "vnc_recorder_address": None,
            "rewarder_recorder_address": None,
        }
        held = allocation.held
        password = None if held is None else held.remote.password
        for kind in ("vnc", "rewarder", "rpc"):
            forward = allocation.forwards.get(kind)
            is_there = forward is not None and held is not None
            entry[f"{kind}_address"] = f"{name}:{forward.port}" if forward and is_there else None
            entry[f"{kind}_password"] = password.reveal() if password and is_there else None
        return entry


def _host_of(request: web.Request) -> str:
    """Returns the name by which a client reached this gateway; empty where it makes no sense."""
    try:
        return request.url.host or ""
    except ValueError:
        return ""


def _client(request: web.Request) -> str:
    return check_client(request.match_info["client"])


async def _json(request: web.Request) -> object:
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError("expected JSON") from None


def _status_of(error: RaygymError) -> int:
    if isinstance(error, ConfigError):
        return 400
    if isinstance(error, LeaseError):
        return 409
    return 429 if isinstance(error, Exhausted) else 503


def _refusal(status: int, detail: str) -> web.Response:
    """Universe's clients take a ``detail`` for final, and show it."""
    return web.json_response({"detail": detail}, status=status)
