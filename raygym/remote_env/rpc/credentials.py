"""TLS of a client: the files, for gRPC and for Python's own ssl."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from raygym.config import TlsFiles
from raygym.errors import ConfigError


def channel_credentials(tls: TlsFiles | None) -> grpc.ChannelCredentials:
    """Returns gRPC's credentials of a client.

    Raises:
        ConfigError: A file cannot be read.
    """
    files = tls or TlsFiles()
    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca", files.ca) if files.ca else _system_authorities(),
        private_key=_read("key", files.key) if files.key else None,
        certificate_chain=_read("cert", files.cert) if files.cert else None,
    )


def ssl_context(tls: TlsFiles | None) -> ssl.SSLContext:
    """Returns what checks a server's certificate as gRPC does.

    Raises:
        ConfigError: A file cannot be read, or holds no certificate or key.
    """
    files = tls or TlsFiles()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["h2"])
    if files.ca is None:
        context.load_default_certs()
    else:
        _check("ca", files.ca, lambda: context.load_verify_locations(files.ca))
    if files.cert is not None:
        cert, key = files.cert, files.key
        _check("cert", cert, lambda: context.load_cert_chain(cert, key))
    return context


def _check(field: str, path: Path, load: object) -> None:
    _read(field, path)
    try:
        load()  # type: ignore[operator]
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"TlsFiles.{field}: {path} makes no sense to TLS: {error}") from error


def _system_authorities() -> bytes | None:
    path = ssl.get_default_verify_paths().cafile
    return None if path is None else Path(path).read_bytes()


def _read(field: str, path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"TlsFiles.{field}: cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in data:
        raise ConfigError(f"TlsFiles.{field}: {path} is no PEM file")
    return data
