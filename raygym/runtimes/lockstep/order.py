"""What a worker is started for."""

from __future__ import annotations

from dataclasses import dataclass

from raygym.runtimes.lockstep.answers import Face
from raygym.runtimes.lockstep.limits import Limits

SOCKET_FD, LEDGER_FD, MEMORY_FD, ORDER_FD = 3, 4, 5, 6
"""Descriptors that a worker inherits."""

EXIT_NOT_MADE = 3
"""Exit code of a worker: there are no environments, and the client was told why."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is to do; it is pickled."""

    factory: bytes
    """A pickled EnvFactory; apart, because it needs ``paths`` first."""
    paths: tuple[str, ...]
    """``sys.path`` of the owner."""
    face: Face
    """What the server says of itself."""
    limits: Limits
    """What the client may ask for."""
    memory_path: str
    """Where the client finds the shared memory."""
    hello: bytes
    """The request that began the conversation; answered already."""
    make: bytes | None
    """The request that made the environments of an earlier worker; answered already."""
    failures: dict[int, bytes]
    """Failures of that one's environments that the client does not know yet."""
    first: bytes
    """The request to begin with."""
