"""The address of an allocator, who lends Remotes over HTTP, as Universe's clients were given it.

::

    http://gateway:8080                      as many as are asked for
    http://secret@gateway:8080               with a token
    https://gateway?n=4&token=secret         four, over TLS, with a token
    http://gateway:8080?n=4&cpu=3.9&address=private
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from raygym.config import TlsFiles
from raygym.core import Secret
from raygym.errors import ConfigError

PLACEMENTS = ("public", "pod", "private")
"""What Universe's clients ask for with ``address=``; a gateway gives all the same."""

_EXAMPLE = "http://127.0.0.1:8080 or https://TOKEN@gateway.example.org?n=4"
_PORTS = {"http": 80, "https": 443}
_KEYS = ("n", "cpu", "address", "token")
_HOST = re.compile(r"[-a-zA-Z0-9._]+|[0-9a-fA-F:.]+")


@dataclass(frozen=True, kw_only=True)
class AllocatorAddress:
    """Where an allocator listens, and what it is asked for."""

    host: str
    """Name or address."""
    port: int
    """TCP port."""
    is_tls: bool = False
    """Whether TLS is spoken there."""
    token: Secret | None = None
    """Whom the allocator knows this client by."""
    count: int | None = None
    """How many Remotes; None for as many as whoever uses it has slots."""
    cpu: float | None = None
    """Cores for each, as Universe's clients may ask; None leaves it to the allocator."""
    placement: str = "public"
    """One of PLACEMENTS."""
    tls: TlsFiles | None = None
    """For ``https``: authority of its certificate, and this client's own; None takes the system's
    authorities. It stands in no address."""

    @property
    def id(self) -> str:
        """The address without its token, for a person."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{name}:{self.port}"

    @property
    def without_token(self) -> str:
        """What ``parse_allocator`` reads back, but for the token and the count."""
        told = [f"cpu={self.cpu:g}"] if self.cpu is not None else []
        return "?".join([self.id, "&".join([*told, f"address={self.placement}"])])

    @property
    def token_query(self) -> str:
        """What stands behind ``without_token`` to have the token too; empty without one."""
        return "" if self.token is None else f"&token={quote(self.token.reveal(), safe='')}"


def is_allocator(text: str) -> bool:
    """Returns whether it is meant to be the address of an allocator."""
    return text.strip().lower().startswith(("http://", "https://"))


def parse_allocator(text: str) -> AllocatorAddress:
    """Reads the address of an allocator.

    Raises:
        ConfigError: It is malformed. The message never shows a token.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise _malformed("expected a host, and a port from 1 to 65535 after a colon") from None
    host = parts.hostname
    if not host or not _HOST.fullmatch(host) or port == 0:
        raise _malformed("expected a host: letters, digits, -, . and _ (IPv6 in brackets)")
    if parts.path.strip("/") or parts.fragment:
        raise _malformed("expected nothing between the port and the ?, if there is any")
    values = _query(parts)
    return AllocatorAddress(
        host=host,
        port=port or _PORTS[parts.scheme],
        is_tls=parts.scheme == "https",
        token=_token(parts, values),
        count=_count(values),
        cpu=_cpu(values),
        placement=_placement(values),
    )


def _query(parts: SplitResult) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _KEYS:
            raise _malformed(f"expected {', '.join(_KEYS)} after the ?, got {key!r}")
        if key in values:
            raise _malformed(f"{key}= stands there twice")
        values[key] = value
    return values


def _token(parts: SplitResult, values: dict[str, str]) -> Secret | None:
    if parts.password:
        raise _malformed("expected a token before the @, without a colon")
    given = [unquote(parts.username or ""), values.get("token", "")]
    if all(given):
        raise _malformed("the token stands before the @ or after the ?, not in both places")
    token = next(filter(None, given), None)
    if token is not None and (":" in token or not token.isprintable()):
        raise _malformed("a token has no colon and nothing that cannot be printed")
    return None if token is None else Secret(token)


def _count(values: dict[str, str]) -> int | None:
    text = values.get("n")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise _malformed(f"n: expected a count of at least 1, got {text!r}")
    return int(text)


def _cpu(values: dict[str, str]) -> float | None:
    text = values.get("cpu")
    if text is None:
        return None
    try:
        cpu = float(text)
    except ValueError:
        cpu = math.nan
    if not 0 < cpu < math.inf:
        raise _malformed(f"cpu: expected cores above 0, got {text!r}")
    return cpu


def _placement(values: dict[str, str]) -> str:
    placement = values.get("address", "public")
    if placement not in PLACEMENTS:
        raise _malformed(f"address: expected {', '.join(PLACEMENTS)}, got {placement!r}")
    return placement


def _malformed(problem: str) -> ConfigError:
    return ConfigError(f"remotes: address of an allocator: {problem}\n  right: {_EXAMPLE}")
