"""Who asks over HTTP: a token by Basic or Bearer authorization, or a certificate."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from raygym.config import TlsFiles
from raygym.errors import ConfigError
from raygym.gateway.tenants import ANYBODY, Tenant, Tenants
from raygym.machine import is_loopback


def check_exposure(host: str, tenants: Tenants, *, has_tls: bool, is_insecure: bool) -> None:
    """Checks that a gateway may listen on an interface.

    Raises:
        ConfigError: Others could reach it, and it asks for no token, or lets them send it in
            plaintext without being told to.
    """
    if is_loopback(host):
        return
    if tenants.is_open:
        raise ConfigError(
            f"HTTP on {host}: whoever reaches it could lease remotes; give tenants with tokens, "
            "or stay on 127.0.0.1"
        )
    if not has_tls and not is_insecure:
        raise ConfigError(
            f"HTTP on {host}: tokens would cross the network in plaintext; give TLS files, or say "
            "is_insecure=True where the network is trusted"
        )


def tls_context(files: TlsFiles, *, takes_certificates: bool) -> ssl.SSLContext:
    """Returns what a server speaks TLS with.

    Args:
        files: Its certificate and key, and the authority of clients' certificates.
        takes_certificates: Whether clients may prove themselves with one.

    Raises:
        ConfigError: A file is missing, or is none of TLS.
    """
    if files.cert is None or files.key is None:
        raise ConfigError("HTTPS: a server needs a certificate and its key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(files.cert, files.key)
        if takes_certificates and files.ca is not None:
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"HTTPS: {files.cert}, {files.key}: {error}") from error
    return context


def tenant_of(
    tenants: Tenants, authorization: str | None, certificate: Mapping[str, Any] | None
) -> Tenant | None:
    """Returns who asks; None where it may not.

    An open gateway takes any token, because Universe's clients always send one.

    Args:
        tenants: Who there is.
        authorization: The header, if there was one.
        certificate: As ``ssl.SSLSocket.getpeercert`` gives it, of one that was found good.
    """
    token = token_in(authorization)
    tenant = tenants.of_token(token)
    if tenant is None and not token and certificate:
        tenant = tenants.of_certificate(_names(certificate))
    return ANYBODY if tenant is None and tenants.is_open else tenant


def token_in(authorization: str | None) -> str | None:
    """Returns the token of a header: all of Bearer, the user (or else the password) of Basic."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value or None
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user or password or None


def _names(certificate: Mapping[str, Any]) -> Sequence[str]:
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    common = [value for key, value in subject if key == "commonName"]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return list(dict.fromkeys([*common, *others]))
