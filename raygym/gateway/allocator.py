"""Universe's allocations: remotes that a client asks for, polls for, and keeps alive.

::

    create ──▶ pending ──▶ allocated ──▶ gone      given back, expired, or its remote was lost
                  └──────▶ failed ─────▶ gone      told once, where another try would not help

An allocation lives while its client refreshes it, or has a connection open through one of its
ports. Universe's own clients refresh only what is pending, and give nothing back; so a
connection is the sign of life that all have in common.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from raygym.core import Endpoint, Remote
from raygym.errors import RaygymError, RemoteError
from raygym.gateway.allocation_request import AllocationRequest
from raygym.gateway.forwards import Forward
from raygym.gateway.leasing import Held, Leasing
from raygym.gateway.pool import Wanted
from raygym.gateway.tenants import Tenant

log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_MAX_FAILURES = 3
_FAILURES_COUNT_S = 300.0

Status = Literal["pending", "allocated", "failed"]


@dataclass(eq=False)
class Allocation:
    """One remote that a client asked for."""

    name: str
    """Unique: ``a-7f2a91``."""
    tenant: Tenant
    client: str
    handle: str
    """The client's number for it."""
    wanted: Wanted
    since_s: float
    renewed_s: float
    """When its client last gave a sign of life."""
    held: Held | None = None
    """The remote, once it is there."""
    forwards: dict[str, Forward] = field(default_factory=dict)
    """Ports by what is behind them: ``vnc``, ``rewarder``, ``rpc``."""
    failure: RaygymError | None = None
    """Why there will be none."""
    job: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """Where it stands."""
        if self.failure is not None:
            return "failed"
        return "pending" if self.held is None else "allocated"

    @property
    def connections(self) -> int:
        """How many connections its client has open."""
        return sum(forward.connections for forward in self.forwards.values())


@dataclass
class AllocatorCounts:
    """What an Allocator did since it started."""

    created: int = 0
    given_back: int = 0
    expired: int = 0
    """Ended because their clients gave no sign of life."""
    lost: int = 0
    """Ended because their remotes did."""
    failed: int = 0
    """Remotes that did not come."""
    connections: int = 0
    """Connections through ports of allocations that are gone."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Bytes through such ports, by direction: ``sent``, ``received``."""


class Allocator:
    """Keeps the allocations of all clients; belongs to one event loop.

    Args:
        leasing: Leases the remotes.
        host: Interface that ports of remotes are opened on.
        ports: Those to choose from; none takes any that is free.
        ttl_s: How long an allocation lives without a sign of its client.
    """

    def __init__(
        self,
        leasing: Leasing,
        *,
        host: str = "127.0.0.1",
        ports: Sequence[int] = (),
        ttl_s: float = 60.0,
    ) -> None:
        self.ttl_s = ttl_s
        self.counts = AllocatorCounts()
        self._leasing = leasing
        self._host = host
        self._ports = ports
        self._allocations: dict[str, Allocation] = {}
        self._failures: dict[tuple[str, ...], list[float]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look after allocations whose clients are gone."""
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_for_ever())

    def now_s(self) -> float:
        """Returns the time, by the clock of ``Allocation``'s times."""
        return self._leasing.clock()

    def allocations(self) -> Sequence[Allocation]:
        """Returns all that there are, oldest first."""
        return list(self._allocations.values())

    def of(self, tenant: Tenant, client: str) -> Sequence[Allocation]:
        """Returns those of a client."""
        return [a for a in self.allocations() if (a.tenant.name, a.client) == (tenant.name, client)]

    def create(
        self, tenant: Tenant, request: AllocationRequest
    ) -> Sequence[tuple[Allocation, bool]]:
        """Returns an allocation for each handle, and whether it is new.

        Args:
            tenant: Who asks.
            request: For what.
        """
        found: list[tuple[Allocation, bool]] = []
        mine = {(a.wanted.runtime, a.handle): a for a in self.of(tenant, request.client)}
        for handle in request.handles:
            there = mine.get((request.any_wanted.runtime, handle))
            if there is None or there.wanted.mode != request.any_wanted.mode:
                found.append((self._begin(tenant, request, handle), True))
                continue
            there.renewed_s = self._leasing.clock()
            found.append((there, False))
        return found

    def refresh(
        self, tenant: Tenant, client: str, names: Sequence[str] | None
    ) -> Sequence[Allocation]:
        """Notes that a client lives; returns those of the named allocations that are there.

        Args:
            tenant: Who asks.
            client: Whose they are.
            names: Which; None means all.

        Raises:
            RaygymError: There will be no remote for one of them. It is raised once.
        """
        found = [a for a in self.of(tenant, client) if names is None or a.name in names]
        now_s = self._leasing.clock()
        for allocation in found:
            allocation.renewed_s = now_s
            if allocation.failure is not None:
                del self._allocations[allocation.name]
                raise allocation.failure
        return found

    async def settle(self, allocations: Sequence[Allocation], timeout_s: float) -> None:
        """Waits until none is pending, for that long at most."""
        jobs = [a.job for a in allocations if a.job is not None and not a.job.done()]
        if jobs:
            await asyncio.wait(jobs, timeout=timeout_s)

    async def delete(
        self, tenant: Tenant, client: str, names: Sequence[str] | None, *, is_whole: bool
    ) -> Sequence[Allocation]:
        """Gives remotes back, and returns their allocations.

        Args:
            tenant: Who asks.
            client: Whose they are.
            names: Which; None means all.
            is_whole: Whether the remotes may be kept for others.
        """
        found = [a for a in self.of(tenant, client) if names is None or a.name in names]
        self.counts.given_back += len(found)
        for allocation in found:
            del self._allocations[allocation.name]
        await asyncio.gather(*[self._end(a, is_whole=is_whole) for a in found])
        return found

    def position(self, allocation: Allocation) -> str:
        """Says where a pending allocation stands in the queue; empty where it does not."""
        waiting = self._leasing.admission.waiting()
        for place in waiting:
            key = place.tenant, place.client_id
            if key == (allocation.tenant.name, allocation.wanted.client_id):
                slots = self._leasing.admission
                return (
                    f"number {place.position} of {len(waiting)} in the queue; "
                    f"{slots.used} of {slots.slots} slots are in use"
                    + (", and your quota is used up" if place.is_over_quota else "")
                )
        return ""

    async def sweep(self) -> None:
        """Ends what its client no longer wants, as it seems, and what lost its remote."""
        now_s = self._leasing.clock()
        for allocation in self.allocations():
            if allocation.connections:
                allocation.renewed_s = now_s
            if allocation.held is not None and allocation.held.loss.done():
                self.counts.lost += 1
                self._end_soon(allocation, "its remote was lost", is_whole=False)
            elif now_s - allocation.renewed_s >= self.ttl_s:
                self.counts.expired += 1
                self._end_soon(allocation, f"no sign of life for {self.ttl_s:g} s", is_whole=False)

    async def quiesce(self) -> None:
        """Waits until every remote whose allocation ended is given back."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def close(self) -> None:
        """Gives everything back. May be called twice."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.gather(*[self._end(a, is_whole=True) for a in self.allocations()])
        await self.quiesce()

    def _begin(self, tenant: Tenant, request: AllocationRequest, handle: str) -> Allocation:
        now_s = self._leasing.clock()
        allocation = Allocation(
            name=f"a-{secrets.token_hex(4)}",
            tenant=tenant,
            client=request.client,
            handle=handle,
            wanted=request.wanted(handle),
            since_s=now_s,
            renewed_s=now_s,
        )
        self.counts.created += 1
        self._allocations[allocation.name] = allocation
        allocation.job = asyncio.create_task(self._obtain(allocation))
        return allocation

    async def _obtain(self, allocation: Allocation) -> None:
        try:
            held = await self._leasing.lease(allocation.wanted, allocation.tenant)
        except (RaygymError, OSError) as error:
            self._note_failure(allocation, error)
            return
        try:
            for name, endpoint in _endpoints(held.remote, allocation.wanted.mode).items():
                forward = Forward(endpoint, host=self._host, ports=self._ports)
                await forward.start()
                allocation.forwards[name] = forward
        except BaseException as error:
            await self._close_forwards(allocation)
            await held.remove()
            if not isinstance(error, RemoteError):
                raise
            self._note_failure(allocation, error)
            return
        allocation.held = held
        allocation.renewed_s = self._leasing.clock()
        self._failures.pop(_place(allocation), None)

    def _note_failure(self, allocation: Allocation, error: RaygymError | OSError) -> None:
        """Tells the client at once, or has it ask again where that may help."""
        self.counts.failed += 1
        log.warning("allocation.failed name=%s cause=%s", allocation.name, error)
        now_s = self._leasing.clock()
        times = self._failures.setdefault(_place(allocation), [])
        times[:] = [*(t for t in times if now_s - t < _FAILURES_COUNT_S), now_s]
        is_worth_a_try = isinstance(error, RemoteError | OSError) and len(times) < _MAX_FAILURES
        if is_worth_a_try:
            self._allocations.pop(allocation.name, None)
            return
        del self._failures[_place(allocation)]
        if isinstance(error, OSError):
            error = RemoteError(f"{allocation.name}: {error}")
        allocation.failure = error

    def _end_soon(self, allocation: Allocation, why: str, *, is_whole: bool) -> None:
        log.info(
            "allocation.ended name=%s client_id=%s why=%s", allocation.name, allocation.client, why
        )
        del self._allocations[allocation.name]
        task = asyncio.create_task(self._end(allocation, is_whole=is_whole))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, allocation: Allocation, *, is_whole: bool) -> None:
        self._allocations.pop(allocation.name, None)
        if allocation.job is not None and not allocation.job.done():
            allocation.job.cancel()
            await asyncio.gather(allocation.job, return_exceptions=True)
        await self._close_forwards(allocation)
        if allocation.held is not None:
            held = allocation.held
            await (held.release() if is_whole else held.remove())

    async def _close_forwards(self, allocation: Allocation) -> None:
        forwards = list(allocation.forwards.values())
        allocation.forwards.clear()
        for forward in forwards:
            await forward.close()
            self.counts.connections += forward.opened
            self.counts.bytes["sent"] += forward.sent_bytes
            self.counts.bytes["received"] += forward.received_bytes

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except (RaygymError, OSError) as error:
                log.warning("allocations.sweep_failed cause=%s", error)


def _endpoints(remote: Remote, mode: str) -> dict[str, Endpoint]:
    names = ("rpc",) if mode == "lockstep" else ("vnc", "rewarder")
    found = {name: getattr(remote, name) for name in names}
    return {name: endpoint for name, endpoint in found.items() if endpoint is not None}


def _place(allocation: Allocation) -> tuple[str, ...]:
    """Returns what stays the same when a client asks again."""
    wanted = allocation.wanted
    return allocation.tenant.name, allocation.client, wanted.runtime, allocation.handle
