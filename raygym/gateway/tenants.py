"""Who may use a gateway, and how many slots of it.

Tokens are kept as digests only. A token is compared with every digest there is, each in constant
time, so that how long a refusal takes says nothing about what was nearly right.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raygym.errors import ConfigError

MIN_TOKEN_LENGTH = 16
"""Fewest characters of a token."""

_MAX_TOKEN_LENGTH = 1024
_MOST = 100_000
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_FIELDS = ("name", "token", "token_sha256", "certificate", "quota", "queue")


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """Somebody who leases slots."""

    name: str
    """As it stands in logs and on the status page."""
    quota: int | None = None
    """Most slots at a time; None: as many as there are."""
    queue: int | None = None
    """Most clients that may wait for a slot; None: as many as the gateway lets wait."""


ANYBODY = Tenant(name="anybody")
"""Whoever comes to a gateway that asks for nothing."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tenant, and what it proves itself with."""

    tenant: Tenant
    token_sha256: str = ""
    """SHA-256 of its token, in hexadecimal; empty where it has none."""
    certificate: str = ""
    """A name in its certificate, of TLS; empty where it has none."""


class Tenants:
    """All tenants of a gateway; it pickles, and holds no token.

    Args:
        entries: Who there is.
        is_open: Whether whoever comes without a token is let in, as ``ANYBODY``.
        takes_certificates: Whether a client with a certificate that TLS found good is let in by
            a name in it: one of an entry, or any where there are no entries.
        certificate_quota: Of each that no entry names.

    Raises:
        ConfigError: Two tenants have the same name, token or certificate.
    """

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        *,
        is_open: bool = False,
        takes_certificates: bool = False,
        certificate_quota: int | None = None,
    ) -> None:
        self._entries = tuple(entries)
        self.is_open = is_open
        self.takes_certificates = takes_certificates
        self._certificate_quota = certificate_quota
        _check_unique("name", [entry.tenant.name for entry in entries])
        _check_unique("token", [entry.token_sha256 for entry in entries])
        _check_unique("certificate", [entry.certificate for entry in entries])

    @classmethod
    def of_file(cls, path: Path, *, takes_certificates: bool = False) -> Tenants:
        """Reads a file of tenants.

        Args:
            path: YAML: ``tenants``, a list of mappings with ``name``, ``token`` or
                ``token_sha256`` or ``certificate``, ``quota`` and ``queue``.
            takes_certificates: Whether clients prove themselves with certificates, too.

        Raises:
            ConfigError: It cannot be read, makes no sense, or holds tokens that others than its
                owner may read.
        """
        rows = _rows(path)
        if any("token" in row for row in rows) and path.stat().st_mode & (
            stat.S_IRWXG | stat.S_IRWXO
        ):
            raise ConfigError(
                f"{path}: others than its owner may read these tokens: chmod 600 {path}, or give "
                "their SHA-256 as token_sha256"
            )
        entries = [_entry(path, row) for row in rows]
        if not takes_certificates and all(not entry.token_sha256 for entry in entries):
            raise ConfigError(
                f"{path}: no tenant has a token, and certificates are not asked for; give tokens, "
                "or an authority of clients' certificates"
            )
        return cls(entries, takes_certificates=takes_certificates)

    def of_token(self, token: str | None) -> Tenant | None:
        """Returns whose token it is; None if it is nobody's.

        Args:
            token: What came; None where none did.
        """
        digest = digest_of(token or "")
        found: Tenant | None = None
        for entry in self._entries:
            is_it = hmac.compare_digest(entry.token_sha256.encode(), digest.encode())
            if is_it and token:
                found = entry.tenant
        return ANYBODY if found is None and not token and self.is_open else found

    def of_certificate(self, names: Sequence[str]) -> Tenant | None:
        """Returns whose certificate it is; None if it is nobody's.

        Args:
            names: In a certificate that TLS found good; the first is the most telling.
        """
        if not names or not self.takes_certificates:
            return None
        for entry in self._entries:
            if entry.certificate and entry.certificate in names:
                return entry.tenant
        if self._entries or not names[0].isprintable():
            return None
        return Tenant(name=names[0][:64], quota=self._certificate_quota)


def digest_of(token: str) -> str:
    """Returns the SHA-256 of a token, in hexadecimal, as ``token_sha256`` wants it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _check_unique(what: str, values: Sequence[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value and value in seen:
            shown = repr(value) if what == "name" else "the same one"
            raise ConfigError(f"tenants: two have {shown} as {what}; each needs its own")
        seen.add(value)


def _rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: tenants cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError):
        # The error's own text would quote the line, and the token in it.
        raise ConfigError(f"{path}: tenants cannot be read as YAML") from None
    rows = raw.get("tenants") if isinstance(raw, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(
            f"{path}: expected `tenants:` and a list of mappings, as in "
            "`- {name: anna, token: ..., quota: 4}`"
        )
    return rows


def _entry(path: Path, row: Mapping[str, Any]) -> Entry:
    name = row.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError(
            f"{path}: name: expected letters, digits, '-', '_' and '.', at most 64; got {name!r}"
        )
    where = f"{path}: {name}"
    unknown = sorted(str(key) for key in set(row) - set(_FIELDS))
    if unknown:
        raise ConfigError(f"{where}: there is no {unknown[0]!r}; there are {', '.join(_FIELDS)}")
    for key, least, unit in (("quota", 1, "slots"), ("queue", 0, "clients")):
        number = row.get(key)
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (is_number and least <= number <= _MOST):
            raise ConfigError(f"{where}: {key}: expected {least} to {_MOST} {unit}, got {number!r}")
    given = [key for key in ("token", "token_sha256", "certificate") if row.get(key) is not None]
    if not given or ("token" in given and "token_sha256" in given):
        raise ConfigError(
            f"{where}: expected a token, a token_sha256 or a certificate; got "
            f"{' and '.join(given) or 'none'}"
        )
    certificate = row.get("certificate") or ""
    if not isinstance(certificate, str):
        raise ConfigError(f"{where}: certificate: expected a name in it, got {certificate!r}")
    return Entry(
        tenant=Tenant(name=name, quota=row.get("quota"), queue=row.get("queue")),
        token_sha256=_digest(where, row),
        certificate=certificate,
    )


def _digest(where: str, row: Mapping[str, Any]) -> str:
    """Returns the digest of a row's token; empty where it has none. Never quotes a token."""
    given = row.get("token_sha256")
    if given is not None:
        if not isinstance(given, str) or not _DIGEST.match(given.lower()):
            raise ConfigError(f"{where}: token_sha256: expected 64 hexadecimal digits")
        return given.lower()
    token = row.get("token")
    if token is None:
        return ""
    if not isinstance(token, str):
        raise ConfigError(f"{where}: token: expected a text; put it into quotation marks")
    is_sendable = token.isascii() and token.isprintable() and " " not in token
    if not is_sendable or not MIN_TOKEN_LENGTH <= len(token) <= _MAX_TOKEN_LENGTH:
        raise ConfigError(
            f"{where}: token: expected {MIN_TOKEN_LENGTH} to {_MAX_TOKEN_LENGTH} printable ASCII "
            "characters without spaces; `openssl rand -hex 24` makes one"
        )
    return digest_of(token)
