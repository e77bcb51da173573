"""What a lock-step server allows, and where it listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raygym.config import check_range
from raygym.core import Secret
from raygym.errors import ConfigError
from raygym.wire.framing import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from raygym.config import TlsFiles

_LOOPBACK = ("localhost", "::1", "[::1]")
_MAX_GRPC_MESSAGE_BYTES = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one conversation may ask for."""

    max_envs: int = 1024
    """Most environments of one conversation."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Longest request, and longest response."""
    max_shared_memory_bytes: int = 1024 * 1024 * 1024
    """Most shared memory of one conversation; observations beyond it travel in messages."""
    are_kwargs_allowed: bool = True
    """Whether a client may choose keyword arguments of the environment's factory."""

    def __post_init__(self) -> None:
        check_range("Limits", "max_envs", self.max_envs, 1, 1_000_000)
        check_range(
            "Limits", "max_message_bytes", self.max_message_bytes, 1024, _MAX_GRPC_MESSAGE_BYTES
        )
        check_range("Limits", "max_shared_memory_bytes", self.max_shared_memory_bytes, 0, 2**40)


@dataclass(frozen=True, kw_only=True)
class RpcConfig:
    """Where a lock-step server listens, whom it lets in, and how long it waits."""

    bind: str | None = "127.0.0.1"
    """Address for gRPC over TCP; None serves gRPC at ``directory/rpc.sock``."""
    port: int = 0
    """TCP port; 0 takes a free one."""
    directory: Path | None = None
    """Private directory for sockets. Without one, the local socket has a name but no file."""
    token: Secret | None = None
    """What a client must present as ``authorization: Bearer TOKEN``; None asks for nothing."""
    tls: TlsFiles | None = None
    """Certificate, key, and the authority that clients' certificates must come from."""
    is_insecure: bool = False
    """Whether plaintext is allowed on addresses other than loopback."""
    max_streams: int = 64
    """Most conversations at a time; more are refused."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Longest message."""
    step_timeout_s: float = 60.0
    """Longest step or rendering; then the environment is ended."""
    start_timeout_s: float = 60.0
    """Longest making or reset of a request's environments."""
    idle_timeout_s: float = 0.0
    """Ends a conversation that asked nothing for so long; 0 never."""
    keepalive_s: float = 30.0
    """How often a silent gRPC connection is asked whether it lives."""
    is_contained: bool = False
    """Whether it is in a container of its own: clients share ``directory`` with it, maybe under
    another path, and nothing else."""

    def __post_init__(self) -> None:
        owner = "RpcConfig"
        check_range(owner, "port", self.port, 0, 65535)
        check_range(owner, "max_streams", self.max_streams, 1, 100_000)
        check_range(
            owner, "max_message_bytes", self.max_message_bytes, 1024, _MAX_GRPC_MESSAGE_BYTES
        )
        check_range(owner, "step_timeout_s", self.step_timeout_s, 0.01, 86400)
        check_range(owner, "start_timeout_s", self.start_timeout_s, 0.01, 86400)
        check_range(owner, "idle_timeout_s", self.idle_timeout_s, 0, 1e7)
        check_range(owner, "keepalive_s", self.keepalive_s, 1, 86400)
        if self.is_contained and self.directory is None:
            raise ConfigError("RpcConfig.is_contained: needs a directory that clients share")
        if self.bind is None and self.directory is None:
            raise ConfigError("RpcConfig: give bind, directory, or both; got neither")
        if not (self.is_local or self.tls or self.is_insecure):
            raise ConfigError(
                f"RpcConfig.bind: {self.bind} can be reached by others, and nothing would be "
                "encrypted. Give tls (`raygym certs init` makes the files), bind to 127.0.0.1, "
                "or say is_insecure"
            )

    @property
    def memory_directory(self) -> Path | None:
        """Where clients look for shared memory; None for those of the same namespaces."""
        return self.directory if self.is_contained else None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.bind is None or self.bind in _LOOPBACK or self.bind.startswith("127.")
