"""What a gateway does right now, as one snapshot for pages, probes and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raygym.gateway.admission import Waiting


@dataclass(frozen=True, kw_only=True)
class LeaseRow:
    """One remote that a client holds."""

    lease_id: str
    """Unique while the gateway runs."""
    remote_id: str
    env_id: str
    mode: str
    """``lockstep`` or ``realtime``."""
    client_id: str
    tenant: str
    """Its name."""
    age_s: float
    """Since it was granted."""
    node: str = ""
    """Where the remote runs."""


@dataclass(frozen=True, kw_only=True)
class StreamCounts:
    """What went through the lock-step streams of a gateway since it started."""

    open: int = 0
    """Streams that are open now, also those that wait for a slot."""
    opened: int = 0
    """Streams that were opened so far."""
    round_trips: int = 0
    """Requests that were answered by remotes."""
    round_trip_s: float = 0.0
    """Seconds that these took, from the request's arrival to the answer's departure."""
    round_trip_buckets: Mapping[float, int] = field(default_factory=dict)
    """How many took at most so many seconds; cumulative, the largest is infinity."""
    request_bytes: int = 0
    answer_bytes: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    """Streams that were refused or broken off, by the name of their gRPC status."""


@dataclass(frozen=True, kw_only=True)
class GatewayStatus:
    """What a gateway does right now."""

    slots: int
    """Most remotes at a time."""
    used: int
    """Slots in use: leased, starting or being given back."""
    starting: int
    """Remotes that are being started."""
    idle: int
    """Remotes that nobody holds, kept for their clients for a while."""
    leases: Sequence[LeaseRow] = ()
    """Who holds what, oldest first."""
    waiting: Sequence[Waiting] = ()
    """The queue, first come first."""
    granted: int = 0
    """Leases granted so far."""
    given_back: int = 0
    """Leases given back so far, by clients that came to an end and by those that died."""
    remotes_started: int = 0
    remotes_reused: int = 0
    """Leases that were served by a remote that was there."""
    remotes_failed: int = 0
    """Remotes that did not start."""
    remotes_lost: int = 0
    """Remotes that broke while a client held them."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Clients that got no slot, by cause: ``full``, ``slots``, ``quota``."""
    gone_waiting: int = 0
    """Clients that went away while they waited."""
    streams: StreamCounts = field(default_factory=StreamCounts)
    """Of the gRPC front."""
