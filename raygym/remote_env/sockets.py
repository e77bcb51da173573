"""Connecting to Endpoints."""

from __future__ import annotations

import socket
import time

from raygym.core import Endpoint
from raygym.errors import RemoteUnreachable

_RETRY_S = 0.05


def connect(endpoint: Endpoint, deadline_s: float) -> socket.socket:
    """Connects to an Endpoint, trying again while it refuses.

    Args:
        endpoint: Where to.
        deadline_s: When to give up, in seconds of ``time.monotonic``.

    Raises:
        RemoteUnreachable: It did not accept in time.
    """
    while True:
        left_s = max(0.01, deadline_s - time.monotonic())
        try:
            if endpoint.path is not None:
                sock = socket.socket(socket.AF_UNIX)
                try:
                    sock.settimeout(left_s)
                    sock.connect(endpoint.path)
                except BaseException:
                    sock.close()
                    raise
                return sock
            assert endpoint.host is not None  # noqa: S101  Endpoint has one of both
            assert endpoint.port is not None  # noqa: S101
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=left_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            if time.monotonic() + _RETRY_S > deadline_s:
                raise RemoteUnreachable(
                    f"{endpoint}: nobody accepted a connection in time: {error}; "
                    "is the remote running, and is this its address?",
                    endpoint=str(endpoint),
                ) from error
            time.sleep(_RETRY_S)
