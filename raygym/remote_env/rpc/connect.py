"""From an endpoint to a conversation, over the cheapest carrier that both ends have."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from raygym.config import TlsFiles
from raygym.core import Endpoint, Secret
from raygym.errors import (
    ConfigError,
    ProtocolError,
    RemoteError,
)
from raygym.machine import is_loopback
from raygym.remote_env.rpc.channel import METHOD, MethodUnknown
from raygym.remote_env.rpc.credentials import channel_credentials
from raygym.remote_env.rpc.framed_channel import FramedChannel
from raygym.remote_env.rpc.grpc_channel import GrpcChannel
from raygym.remote_env.rpc.probe import probe
from raygym.remote_env.rpc.session import LockstepSession
from raygym.remote_env.rpc.shared_memory import beside
from raygym.wire.framing import MAX_MESSAGE_BYTES
from raygym.wire.proto import raygym_v1_pb2 as pb

log = logging.getLogger(__name__)

_VERSION_KEY = "raygym-version"
_LEAST_WAIT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a server is, and what it takes to be let in."""

    endpoint: Endpoint
    """Where gRPC is spoken."""
    token: Secret | None = None
    """What the server asks for; None for nothing."""
    tls: TlsFiles | None = None
    """Authority of the server's certificate, and this client's own; None takes the system's."""
    is_insecure: bool = False
    """Whether plaintext may go to other machines."""

    def __post_init__(self) -> None:
        if self.is_insecure or self.endpoint.is_tls or is_here(self.endpoint):
            return
        raise ConfigError(
            f"{self.endpoint} is on another machine, and grpc:// would send everything in "
            "plaintext, the token too. Use grpcs://, or say is_insecure=True"
        )

    def channel(self, *, method: str = METHOD) -> GrpcChannel:
        """Returns a new stream of a method, not yet open.

        Raises:
            ConfigError: The token or a file of TLS makes no sense.
        """
        credentials = channel_credentials(self.tls) if self.endpoint.is_tls else None
        return GrpcChannel(
            self.endpoint,
            method=method,
            credentials=credentials,
            token=self.token,
            # gRPC's own servers take pings that come more often than every 5 minutes for abuse.
            is_kept_alive=method == METHOD,
            name=str(self.endpoint),
        )


@dataclass(frozen=True)
class Connection:
    """An open stream, and what the peer is."""

    channel: GrpcChannel
    """Of ``raygym.v1``; closed where the peer speaks none."""
    is_raygym: bool
    """Whether the peer speaks raygym.v1. Else it is a gRPC server of another kind."""


def connect(
    endpoint: Endpoint,
    *,
    token: Secret | None = None,
    tls: TlsFiles | None = None,
    is_insecure: bool = False,
    connect_timeout_s: float = 10.0,
) -> Connection:
    """Opens a stream of raygym.v1, and finds out whether the peer speaks it.

    Args:
        endpoint: Where gRPC is spoken.
        token: What the server asks for.
        tls: Files of TLS; None takes the system's authorities.
        is_insecure: Whether plaintext may go to other machines.
        connect_timeout_s: Longest wait for all of it.

    Raises:
        ConfigError: Plaintext to another machine, or a file of TLS makes no sense.
        RemoteUnreachable: Nothing listens there, or something else, or it is full.
        HandshakeRefused: TLS was not agreed on, or the token is missing or wrong. Of both,
            the field ``problem`` says what it was; see ``probe``, and ``token_missing``,
            ``token_wrong``, ``too_many_streams``.
    """
    access = Access(endpoint=endpoint, token=token, tls=tls, is_insecure=is_insecure)
    return open_stream(access, timeout_s=connect_timeout_s)


def open_stream(access: Access, *, timeout_s: float) -> Connection:
    """Does what ``connect`` does."""
    deadline_s = time.monotonic() + timeout_s
    probe(access.endpoint, tls=access.tls, timeout_s=timeout_s)
    channel = access.channel()
    try:
        metadata = channel.wait_open(timeout_s=max(deadline_s - time.monotonic(), _LEAST_WAIT_S))
    except MethodUnknown:
        return Connection(channel, is_raygym=False)
    except BaseException:
        channel.close()
        raise
    if _VERSION_KEY not in metadata:
        channel.close()
    return Connection(channel, is_raygym=_VERSION_KEY in metadata)


def open_session(
    access: Access,
    *,
    timeout_s: float,
    client_id: str = "",
    uses_local_socket: bool = True,
) -> LockstepSession:
    """Connects and says Hello; on one machine it moves to the server's unix socket.

    Args:
        access: To the server.
        timeout_s: Longest wait for all of it.
        client_id: For the server's logs.
        uses_local_socket: Whether to move.

    Raises:
        MethodUnknown: The server speaks gRPC, and no raygym.v1.
        ConfigError, RemoteUnreachable, HandshakeRefused: As ``connect``.
    """
    deadline_s = time.monotonic() + timeout_s
    connection = open_stream(access, timeout_s=timeout_s)
    name = str(access.endpoint)
    if not connection.is_raygym:
        raise MethodUnknown(
            f"{name} is a gRPC server and speaks no raygym.v1", problem="method_unknown"
        )
    session = LockstepSession(connection.channel, name=name, directory=_directory(access))
    left_s = max(deadline_s - time.monotonic(), _LEAST_WAIT_S)
    welcome = session.hello(client_id=client_id, timeout_s=left_s)
    if not (uses_local_socket and welcome.local_socket):
        return session
    left_s = max(deadline_s - time.monotonic(), _LEAST_WAIT_S)
    return _moved(session, welcome, client_id, left_s, _directory(access))


def _directory(access: Access) -> Path | None:
    return None if access.endpoint.path is None else Path(access.endpoint.path).parent


def _moved(
    session: LockstepSession,
    welcome: pb.Welcome,
    client_id: str,
    timeout_s: float,
    directory: Path | None,
) -> LockstepSession:
    """Returns a session over the server's local socket, or the same where that cannot be had."""
    path = welcome.local_socket
    try:
        channel = FramedChannel.open(
            path if path[0] in "/\0" else str(beside(directory, path)),
            timeout_s=timeout_s,
            max_message_bytes=welcome.max_message_bytes or MAX_MESSAGE_BYTES,
        )
    except OSError as error:
        log.info("rpc.no_local_socket name=%s cause=%s", session.name, error)
        return session
    local = LockstepSession(channel, name=session.name, directory=directory)
    try:
        local.hello(client_id=client_id, timeout_s=timeout_s)
    except (RemoteError, ProtocolError, ConfigError) as error:
        log.info("rpc.no_local_socket name=%s cause=%s", session.name, error)
        local.close()
        return session
    session.close()
    return local


def is_here(endpoint: Endpoint) -> bool:
    """Whether an endpoint is on this machine for sure."""
    return endpoint.host is None or is_loopback(endpoint.host)
