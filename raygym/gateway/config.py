"""Settings of a gateway, and what may not be offered to other machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raygym.config import TlsFiles, check_range
from raygym.errors import ConfigError
from raygym.machine import is_loopback

if TYPE_CHECKING:
    from raygym.environments.backends import BackendName
    from raygym.gateway.http_front import HttpConfig
    from raygym.gateway.tenants import Tenants

MAX_REQUEST_BYTES = 16 * 2**20
"""Longest request, if nothing else was asked for."""


@dataclass(frozen=True, kw_only=True)
class LeaseLimits:
    """How many remotes there are, and how long anything takes."""

    slots: int = 8
    """Most remotes at a time, each for one client."""
    max_waiting: int = 1024
    """Most clients that may wait for a slot; more are refused at once."""
    queue_timeout_s: float = 45.0
    """Longest wait for a slot; less than the minute that raygym's clients wait for a remote."""
    keep_s: float = 60.0
    """How long a remote that was given back is kept for its tenant; 0 not at all."""
    idle_timeout_s: float = 600.0
    """A client that asks nothing for so long loses its lease; 0 never."""
    greeting_timeout_s: float = 60.0
    """A stream that has no remote and asks for nothing is ended after so long."""
    start_timeout_s: float = 60.0
    """Longest start of a remote."""
    answer_timeout_s: float = 180.0
    """Longest wait for a remote's answer, which has shorter deadlines of its own."""
    max_envs: int = 64
    """Most environments of one lease."""

    def __post_init__(self) -> None:
        owner = "LeaseLimits"
        check_range(owner, "slots", self.slots, 1, 100_000)
        check_range(owner, "max_waiting", self.max_waiting, 0, 1_000_000)
        check_range(owner, "queue_timeout_s", self.queue_timeout_s, 0, 86400)
        check_range(owner, "keep_s", self.keep_s, 0, 86400)
        check_range(owner, "idle_timeout_s", self.idle_timeout_s, 0, 1e7)
        check_range(owner, "greeting_timeout_s", self.greeting_timeout_s, 0.01, 86400)
        check_range(owner, "start_timeout_s", self.start_timeout_s, 0.1, 3600)
        check_range(owner, "answer_timeout_s", self.answer_timeout_s, 0.1, 86400)
        check_range(owner, "max_envs", self.max_envs, 1, 100_000)


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """Where a gateway listens, whom it lets in, and what it offers; it pickles."""

    tenants: Tenants
    """Who may use it."""
    host: str = "127.0.0.1"
    """Interface of gRPC."""
    port: int = 0
    """TCP port of gRPC; 0 takes a free one."""
    http: HttpConfig | None = None
    """How it is served over HTTP; None: not at all."""
    tls: TlsFiles | None = None
    """Certificate and key, and the authority that clients' certificates must come from. The files
    must be there on each node that serves."""
    is_insecure: bool = False
    """Whether plaintext is allowed on other interfaces than loopback; tokens can be read then."""
    env_ids: tuple[str, ...] = ("*",)
    """What clients may ask for; patterns as in ``flashgames.*``."""
    backend: BackendName = "auto"
    """Where Remotes come from."""
    limits: LeaseLimits = LeaseLimits()
    """Of leases."""
    max_streams: int = 4096
    """Most gRPC streams at a time, those that wait included."""
    max_request_bytes: int = MAX_REQUEST_BYTES
    """Longest message of a client."""
    keepalive_s: float = 10.0
    """How often a silent client is asked whether it lives."""

    def __post_init__(self) -> None:
        owner = "GatewayConfig"
        check_range(owner, "port", self.port, 0, 65535)
        check_range(owner, "max_streams", self.max_streams, 1, 100_000)
        check_range(owner, "max_request_bytes", self.max_request_bytes, 1024, 2**31 - 1)
        check_range(owner, "keepalive_s", self.keepalive_s, 5, 3600)
        if self.tls is not None and self.tls.cert is None:
            raise ConfigError("GatewayConfig.tls: a gateway needs cert and key; see `raygym certs`")
        if self.tenants.takes_certificates and (self.tls is None or self.tls.ca is None):
            raise ConfigError(
                "GatewayConfig.tls: clients' certificates are asked for, and no authority of "
                "theirs was given; give tls.ca"
            )
        if not is_loopback(self.host):
            self._check_reachable()

    def _check_reachable(self) -> None:
        where = f"GatewayConfig.host: {self.host} can be reached by others"
        if self.tenants.is_open:
            raise ConfigError(
                f"{where}, and would serve anybody. Give tokens (--tokens FILE), an authority of "
                "clients' certificates (--tls-ca FILE), or listen on 127.0.0.1"
            )
        if self.tls is None and not self.is_insecure:
            raise ConfigError(
                f"{where}, and nothing would be encrypted, tokens neither. Give --tls-cert and "
                "--tls-key (`raygym certs init` makes both), listen on 127.0.0.1, or say "
                "--insecure"
            )
