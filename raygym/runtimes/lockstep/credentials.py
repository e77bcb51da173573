"""TLS of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from raygym.errors import ConfigError

if TYPE_CHECKING:
    from raygym.config import TlsFiles


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Returns what a server proves itself with; with an authority, clients must do so too.

    Raises:
        ConfigError: A file cannot be read, or certificate and key are missing.
    """
    if tls.cert is None or tls.key is None:
        raise ConfigError("TlsFiles: a server needs both cert and key; see `raygym certs init`")
    cert, key = _read("cert", tls.cert), _read("key", tls.key)
    authority = None if tls.ca is None else _read("ca", tls.ca)
    return grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=authority, require_client_auth=authority is not None
    )


def _read(field: str, path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"TlsFiles.{field}: cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in data:
        raise ConfigError(f"TlsFiles.{field}: {path} is no PEM file")
    return data
