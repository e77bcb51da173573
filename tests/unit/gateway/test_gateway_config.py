from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from raygym.config import TlsFiles
from raygym.errors import ConfigError
from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.tenants import Entry, Tenant, Tenants, digest_of

OPEN = Tenants(is_open=True)
KNOWN = Tenants([Entry(tenant=Tenant(name="a"), token_sha256=digest_of("a" * 16))])
TLS = TlsFiles(cert=Path("/c"), key=Path("/k"))
MUTUAL = TlsFiles(cert=Path("/c"), key=Path("/k"), ca=Path("/a"))
CERTIFIED = Tenants(takes_certificates=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_on_loopback_anybody_may_be_served(host: str) -> None:
    assert GatewayConfig(tenants=OPEN, host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tenants": OPEN}, "would serve anybody"),
        ({"tenants": OPEN, "tls": TLS}, "would serve anybody"),
        ({"tenants": OPEN, "is_insecure": True}, "would serve anybody"),
        ({"tenants": KNOWN}, "nothing would be encrypted"),
    ],
)
def test_others_are_not_served_without_a_token_or_certificates_nor_in_plaintext(
    host: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        GatewayConfig(host=host, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"tenants": KNOWN, "tls": TLS},
        {"tenants": KNOWN, "is_insecure": True},
        {"tenants": CERTIFIED, "tls": MUTUAL},
    ],
)
def test_others_are_served_with_either(options: dict[str, Any]) -> None:
    config = GatewayConfig(host="10.0.0.1", **options)
    assert pickle.loads(pickle.dumps(config)).host == "10.0.0.1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tenants": CERTIFIED, "tls": TLS}, "no authority of theirs"),
        ({"tenants": CERTIFIED}, "no authority of theirs"),
        ({"tenants": OPEN, "tls": TlsFiles(ca=Path("/a"))}, "needs cert and key"),
        ({"tenants": OPEN, "port": 70000}, "port"),
        ({"tenants": OPEN, "max_streams": 0}, "max_streams"),
        ({"tenants": OPEN, "max_request_bytes": 10}, "max_request_bytes"),
        ({"tenants": OPEN, "keepalive_s": 1}, "keepalive_s"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GatewayConfig(**options)


@pytest.mark.parametrize("field", list(LeaseLimits.__dataclass_fields__))
def test_a_limit_below_all_sense_is_named(field: str) -> None:
    with pytest.raises(ConfigError, match=f"LeaseLimits.{field}"):
        LeaseLimits(**{field: -1})
