"""``raygym certs init``: certificates for gRPC remotes, without another program.

It makes an authority, and a server's and a client's certificate that come from it: what
TLS, and mutual TLS, need between machines that one person runs.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import socket
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raygym.errors import ConfigError

FILES = ("ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key")
"""What is made, in this order."""

MAX_DAYS = 36500

_ALWAYS = ("localhost", "127.0.0.1", "::1")
_CLOCK_SLACK = datetime.timedelta(minutes=5)
_MAX_COMMON_NAME = 64
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What ``init`` made."""

    directory: Path
    """Where the files are."""
    hosts: tuple[str, ...]
    """Names and addresses that the server's certificate is good for."""
    expires: datetime.datetime
    """When all three certificates end, in UTC."""


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def init(
    directory: Path | str = "certs",
    *,
    hosts: Sequence[str] = (),
    days: int = 365,
    overwrite: bool = False,
) -> Made:
    """Makes an authority, a server's and a client's certificate: EC P-256, as PEM files.

    All six are made before the first is put in its place.

    Args:
        directory: Where ``FILES`` go; made if need be. It is closed to other users, unless
            it holds other things too.
        hosts: DNS names and IP addresses that clients call the server by, beside
            localhost and the name of this machine.
        days: How long they are good, 1 to ``MAX_DAYS``.
        overwrite: Whether files of these names are replaced.

    Raises:
        ConfigError: A host or ``days`` makes no sense, a file is there already, or the
            directory cannot be written.
    """
    if isinstance(days, bool) or not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"days: expected 1 to {MAX_DAYS}, got {days!r}")
    names = tuple(dict.fromkeys(_plain(host) for host in (*_ALWAYS, *_own_name(), *hosts)))
    directory = Path(directory)
    there = [name for name in FILES if (directory / name).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"{directory} holds {', '.join(there)} already; nothing was changed. Say --force to "
            "replace them (what trusts the old authority will not trust the new one), or name "
            "another --directory"
        )
    now = datetime.datetime.now(datetime.UTC)
    expires = (now + datetime.timedelta(days=days)).replace(microsecond=0)
    authority = _authority(now, expires)
    pairs = {
        "ca": authority,
        "server": _signed(authority, "raygym server", now, expires, hosts=names),
        "client": _signed(authority, "raygym client", now, expires),
    }
    try:
        _write(directory, pairs)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written: {error}") from error
    return Made(directory=directory, hosts=names, expires=expires)


def report(made: Made) -> str:
    """Returns what a person reads: what was made, and how both ends use it."""
    at = made.directory
    host = next((name for name in made.hosts if name not in _ALWAYS), "localhost")
    target = f"[{host}]" if ":" in host else host
    return f"""\
Made in {at}, good until {made.expires:%Y-%m-%d %H:%M} UTC:
  ca.pem      the authority; both ends get it
  ca.key      its key; it signs further certificates, so keep it away from both ends
  server.pem  server.key  for {", ".join(made.hosts)}
  client.pem  client.key  for clients, where the server asks for a certificate

The server (without --tls-ca it asks clients for no certificate):
  python -m raygym.runtimes gym-core --env CartPole-v1 --bind 0.0.0.0 --rpc-port 50051 \\
    --tls-cert {at}/server.pem --tls-key {at}/server.key --tls-ca {at}/ca.pem

The client:
  from pathlib import Path
  import raygym
  from raygym.config import TlsFiles
  env = raygym.RemoteEnv(
      "grpcs://{target}:50051",
      tls=TlsFiles(
          cert=Path("{at}/client.pem"),
          key=Path("{at}/client.key"),
          ca=Path("{at}/ca.pem"),
      ),
  )"""


def _own_name() -> tuple[str, ...]:
    name = socket.gethostname()
    return (name,) if _DNS_NAME.match(name) else ()


def _plain(host: str) -> str:
    """Returns a host as certificates have it, or raises ConfigError."""
    text = host.strip()
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    try:
        name = text.removesuffix(".").encode("idna").decode() if not text.isascii() else text
    except UnicodeError:
        name = ""
    name = name.removesuffix(".").lower()
    looks_like_address = name.replace(".", "").isdigit()
    if not _DNS_NAME.match(name) or len(name) > 253 or looks_like_address:
        raise ConfigError(
            f"--host: expected a DNS name or an IP address, as in robots.example.org or "
            f"10.0.0.7; got {host!r}"
        )
    return name


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _authority(now: datetime.datetime, expires: datetime.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities must not share a name, or a client blames the signature.
    name = _name(f"raygym authority {x509.random_serial_number() % 16**8:08x}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key, now, expires)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _signed(
    authority: _Pair,
    common_name: str,
    now: datetime.datetime,
    expires: datetime.datetime,
    *,
    hosts: Sequence[str] = (),
) -> _Pair:
    """Returns a server's certificate where there are hosts, else a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer = authority.certificate
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(common_name), issuer.subject, key, now, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    expires: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(expires)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "raygym"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MAX_COMMON_NAME]),
        ]
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(directory: Path, pairs: dict[str, _Pair]) -> None:
    directory.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    # A directory that holds other things too has its own reasons for its mode.
    if all(path.name in FILES for path in directory.iterdir()):
        directory.chmod(stat.S_IRWXU)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as made:
        for name, pair in pairs.items():
            _write_file(Path(made, f"{name}.key"), _key_pem(pair), 0o600)
            _write_file(Path(made, f"{name}.pem"), _certificate_pem(pair), 0o644)
        for name in FILES:
            Path(made, name).replace(directory / name)


def _key_pem(pair: _Pair) -> bytes:
    return pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_pem(pair: _Pair) -> bytes:
    return pair.certificate.public_bytes(serialization.Encoding.PEM)


def _write_file(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    path.chmod(mode)
