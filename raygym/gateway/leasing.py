"""Remotes for clients: one lease a client, given back whatever becomes of the client."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from raygym.core import Remote
from raygym.errors import ConfigError, LeaseHeld, RaygymError, RemoteFailedToStart
from raygym.gateway.admission import Admission, Place
from raygym.gateway.pool import Housed, OpenBackend, RemotePool, Wanted, settle
from raygym.gateway.status import GatewayStatus, LeaseRow
from raygym.gateway.tenants import Tenant

__all__ = ["Held", "Leasing", "OpenBackend", "Wanted"]

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_CLIENT_ID_LENGTH = 128

_SWEEP_S = 1.0
_CLOSE_TIMEOUT_S = 30.0
_LOG_LINES = 20


class Held:
    """A remote that a client holds, until ``release`` or ``remove``; ``Leasing`` makes them."""

    def __init__(
        self, leasing: Leasing, housed: Housed, place: Place, wanted: Wanted, lease_id: str
    ) -> None:
        self.remote: Remote = housed.remote
        self.wanted = wanted
        """What was asked for; the client has a name here."""
        self.lease_id = lease_id
        """Unique while the gateway runs."""
        self.tenant: Tenant = place.tenant
        self.waited_s = place.waited_s
        """How long the client stood in the queue."""
        self.since_s = leasing.clock()
        """When it was granted, by the clock of ``Leasing``."""
        self.loss: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, once the remote is found lost while it is held."""
        self._leasing = leasing
        self._housed = housed
        self._place = place
        self._ending: asyncio.Task[None] | None = None

    @property
    def client_id(self) -> str:
        """Who holds it."""
        return self.wanted.client_id

    @property
    def is_over(self) -> bool:
        """Whether it was given back."""
        return self._ending is not None

    async def release(self) -> None:
        """Gives a whole remote back: it may be kept for a while. May be called twice."""
        await self._end(is_whole=True)

    async def remove(self) -> None:
        """Gives a remote back that broke, or is used up: it ends. May be called twice."""
        await self._end(is_whole=False)

    async def note_loss(self, why: str) -> None:
        """Says that the remote broke; the end of its log goes into this one.

        Args:
            why: What was seen.
        """
        backend, remote_id = self._housed.house.backend, self.remote.id
        tail = await self._leasing.in_thread(lambda: backend.log_tail(remote_id, lines=_LOG_LINES))
        self._leasing.note_loss(self, f"{why}\n{tail}".strip())

    async def _end(self, *, is_whole: bool) -> None:
        if self._ending is None:
            ending = self._leasing._give_back(self, self._housed, self._place, is_whole=is_whole)
            self._ending = self._leasing._go(ending)
        # It goes on where whoever waits for it is cancelled.
        await asyncio.shield(self._ending)


class Leasing:
    """Leases remotes; belongs to one event loop, and does what blocks on threads.

    A remote in lock-step that was given back whole is kept for ``keep_s`` for its tenant: first
    for the client that had it, then for any other. It goes at once where its slot is needed.

    Args:
        open_backend: Makes Backends; called on a thread.
        admission: Hands out slots; its number of slots is that of remotes.
        queue_timeout_s: Longest wait for a slot.
        keep_s: How long a remote that was given back is kept; 0 not at all.
        node: Where the remotes run, for the status.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self,
        open_backend: OpenBackend,
        admission: Admission,
        *,
        queue_timeout_s: float = 45.0,
        keep_s: float = 60.0,
        node: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.admission = admission
        self.clock = clock
        self._pool = RemotePool(open_backend, keep_s=keep_s, clock=clock)
        self._queue_timeout_s = queue_timeout_s
        self._node = node
        self._held: dict[str, Held] = {}
        self._taken: set[tuple[str, str]] = set()
        self._granted = 0
        self._given_back = 0
        self._lost = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._obtaining: set[asyncio.Task[Held]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._is_closed = False

    async def lease(
        self, wanted: Wanted, tenant: Tenant, *, timeout_s: float | None = None
    ) -> Held:
        """Waits for a slot and returns a remote; whoever is cancelled meanwhile gets none.

        Args:
            wanted: What is asked for.
            tenant: Whose quota counts.
            timeout_s: Longest wait for a slot; None takes that of the gateway.

        Raises:
            Exhausted: No slot came in time, or too many wait.
            LeaseHeld: The client has a remote, or waits for one.
            ConfigError: The client's name or the environment makes no sense.
            RemoteFailedToStart, MissingDependency: The remote did not start.
        """
        wanted = _named(wanted)
        owner = (tenant.name, wanted.client_id)
        self._check_free(owner, wanted)
        self._taken.add(owner)
        try:
            place = await self.admission.wait_for_place(
                tenant,
                wanted.env_id,
                self._queue_timeout_s if timeout_s is None else timeout_s,
                client_id=wanted.client_id,
            )
        except BaseException:
            self._taken.discard(owner)
            raise
        job = asyncio.create_task(self._obtain(place, wanted))
        self._obtaining.add(job)
        job.add_done_callback(self._obtaining.discard)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._orphaned)
            raise

    def held(self) -> Sequence[Held]:
        """Returns what clients hold, oldest first."""
        return list(self._held.values())

    def status(self) -> GatewayStatus:
        """Returns what it does right now; of streams it knows nothing."""
        admission, pool = self.admission, self._pool
        return GatewayStatus(
            slots=admission.slots,
            used=admission.used,
            starting=pool.starting,
            idle=pool.idle,
            leases=[self._row(held) for held in self.held()],
            waiting=admission.waiting(),
            granted=self._granted,
            given_back=self._given_back,
            remotes_started=pool.started,
            remotes_reused=pool.reused,
            remotes_failed=pool.failed,
            remotes_lost=self._lost,
            refused=dict(admission.refused),
            gone_waiting=admission.gone,
        )

    def start(self) -> None:
        """Begins to look after remotes that are kept, and after those that are lost."""
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_for_ever())

    async def sweep(self) -> None:
        """Ends remotes that were kept long enough, and notes those that are lost."""
        self._pool.sweep()
        for held in self.held():
            if not held.loss.done() and not await self._pool.lives(held._housed):
                self.note_loss(held)

    def note_loss(self, held: Held, why: str = "") -> None:
        """Says that a remote that is held is lost; whoever holds it should give it back.

        Args:
            held: The lease.
            why: For the log; empty where it was just found missing.
        """
        if held.loss.done() or held.is_over:
            return
        self._lost += 1
        held.loss.set_result(f"{held.remote.id} ended, or its lease was lost")
        log.warning(
            "gateway.remote_lost lease=%s client_id=%s cause=%s",
            held.lease_id,
            held.client_id,
            why or "it is not there any more",
        )

    async def close(self) -> None:
        """Ends every remote. May be called twice."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await settle(list(self._obtaining), _CLOSE_TIMEOUT_S)
        for held in self.held():
            self._go(held.remove())
        await settle(list(self._tasks), _CLOSE_TIMEOUT_S)
        await self._pool.close()

    async def in_thread(self, job: Callable[[], T]) -> T:
        """Runs what blocks on a thread; raises what it raises."""
        return await self._pool.in_thread(job)

    def _row(self, held: Held) -> LeaseRow:
        return LeaseRow(
            lease_id=held.lease_id,
            remote_id=held.remote.id,
            env_id=held.wanted.env_id,
            mode=held.wanted.mode,
            client_id=held.client_id,
            tenant=held.tenant.name,
            age_s=self.clock() - held.since_s,
            node=self._node,
        )

    def _check_free(self, owner: tuple[str, str], wanted: Wanted) -> None:
        if self._is_closed:
            raise RemoteFailedToStart(f"{wanted.env_id}: this gateway is being stopped")
        if owner not in self._taken:
            return
        mine = [held for held in self.held() if (held.tenant.name, held.client_id) == owner]
        has = "waits for a remote"
        if mine:
            age_s = self.clock() - mine[0].since_s
            has = f"has had {mine[0].remote.id} ({mine[0].wanted.env_id}) for {age_s:.0f} s"
        raise LeaseHeld(
            f"client {wanted.client_id!r} {has}; a client has one remote at a time: close that "
            "one first, or use another client_id",
            client_id=wanted.client_id,
        )

    async def _obtain(self, place: Place, wanted: Wanted) -> Held:
        owner = (place.tenant.name, wanted.client_id)
        try:
            most_idle = self.admission.slots - self.admission.used
            housed = await self._pool.obtain(wanted, owner, most_idle)
        except BaseException as error:
            # What a client is told of it leaves the remote's log out.
            log.warning("gateway.not_leased client_id=%s cause=%s", wanted.client_id, error)
            self._taken.discard(owner)
            place.leave()
            raise
        self._granted += 1
        remote = housed.remote
        lease_id = f"{remote.id}:g{self._granted}"
        held = self._held[lease_id] = Held(self, housed, place, wanted, lease_id)
        log.info(
            "gateway.leased lease=%s env_id=%s client_id=%s tenant=%s waited_s=%.2f",
            lease_id,
            wanted.env_id,
            wanted.client_id,
            place.tenant.name,
            place.waited_s,
        )
        return held

    async def _give_back(self, held: Held, housed: Housed, place: Place, *, is_whole: bool) -> None:
        """Ends a lease; its slot is free once the remote is kept or gone."""
        owner = (held.tenant.name, held.client_id)
        # A screen would show the next client what the last one left there.
        is_whole = is_whole and held.wanted.mode == "lockstep" and not held.loss.done()
        try:
            if is_whole and not self._is_closed:
                await self._pool.put_back(housed, owner)
            else:
                await self._pool.remove(housed)
        finally:
            self._given_back += 1
            del self._held[held.lease_id]
            self._taken.discard(owner)
            place.leave()
            log.info(
                "gateway.given_back lease=%s client_id=%s tenant=%s whole=%s held_s=%.1f",
                held.lease_id,
                held.client_id,
                held.tenant.name,
                is_whole,
                self.clock() - held.since_s,
            )

    def _orphaned(self, job: asyncio.Task[Held]) -> None:
        """Gives back what came for a client that is gone."""
        if not job.cancelled() and job.exception() is None:
            self._go(job.result().release())

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except (RaygymError, OSError) as error:
                log.warning("gateway.sweep_failed cause=%s", error)


def _named(wanted: Wanted) -> Wanted:
    name = wanted.client_id or f"anonymous-{secrets.token_hex(4)}"
    if len(name) > MAX_CLIENT_ID_LENGTH or not name.isprintable():
        raise ConfigError(
            f"client_id: expected at most {MAX_CLIENT_ID_LENGTH} printable characters, got "
            f"{name[:40]!r}"
        )
    return replace(wanted, client_id=name)
