"""What the command lines of remotes in lock-step have in common: ports, TLS, a token."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from raygym.core import Secret
from raygym.errors import ConfigError
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.options import LOOPBACK

if TYPE_CHECKING:
    from raygym.config import TlsFiles

RPC_OPTIONS = ("rpc_port", "tls_cert", "tls_key", "tls_ca", "token_file", "insecure")
"""Names of what ``add_rpc_options`` adds."""

_MAX_TOKEN_BYTES = 1024


def add_rpc_options(parser: argparse._ActionsContainer) -> None:
    """Adds the options that ``rpc_config`` reads."""
    add = parser.add_argument
    add("--rpc-port", type=int, help="TCP port of gRPC; 0 takes a free one")
    add("--tls-cert", type=Path, help="certificate chain of this server (PEM)")
    add("--tls-key", type=Path, help="its private key (PEM)")
    add("--tls-ca", type=Path, help="authority that clients' certificates must come from (PEM)")
    add("--token-file", type=Path, help="holds what clients must know")
    add("--insecure", action="store_true", help="allow plaintext beyond this machine")


def rpc_config(
    arguments: argparse.Namespace,
    directory: Path | None,
    *,
    is_tcp: bool,
    token: Secret | None,
    max_streams: int,
    step_timeout_s: float,
) -> RpcConfig:
    """Returns where a lock-step server listens.

    Args:
        arguments: With ``bind``, ``contained`` and the options of ``add_rpc_options``.
        directory: Private directory for sockets.
        is_tcp: Whether gRPC is spoken over TCP; else over a unix socket in the directory.
        token: What clients must know.
        max_streams: Most conversations at a time.
        step_timeout_s: Longest step.

    Raises:
        ConfigError: The options make no sense together.
    """
    return RpcConfig(
        bind=(arguments.bind or LOOPBACK) if is_tcp else None,
        port=arguments.rpc_port or 0,
        directory=directory,
        token=token,
        tls=_tls(arguments),
        is_insecure=arguments.insecure,
        is_contained=arguments.contained,
        max_streams=max_streams,
        step_timeout_s=step_timeout_s,
    )


def read_token(path: Path) -> Secret:
    """Returns the token that a file holds.

    Raises:
        ConfigError: It holds none.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--token-file: no token could be read: {why}") from None
    if not (0 < len(text) <= _MAX_TOKEN_BYTES and text.isascii() and text.isprintable()):
        raise ConfigError(
            f"--token-file: expected 1 to {_MAX_TOKEN_BYTES} printable ASCII characters"
        )
    return Secret(text)


def _tls(arguments: argparse.Namespace) -> TlsFiles | None:
    given = (arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    if not any(given):
        return None
    if arguments.tls_cert is None or arguments.tls_key is None:
        raise ConfigError(
            "--tls-cert and --tls-key belong together; `raygym certs init` makes both"
        )
    from raygym.config import TlsFiles

    return TlsFiles(cert=arguments.tls_cert, key=arguments.tls_key, ca=arguments.tls_ca)
