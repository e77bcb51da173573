"""Who gets the next slot of a gateway: whoever waits longest and is within its quota."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raygym.config import check_range
from raygym.errors import RaygymError
from raygym.gateway.tenants import Tenant


class Exhausted(RaygymError):
    """No slot came free in time, or too many wait already.

    Its field ``cause`` is ``full`` (too many wait, of all or of its tenant), ``slots`` (all were
    in use) or ``quota`` (the tenant had as many as it may).
    """


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One place in the queue."""

    position: int
    """From 1."""
    tenant: str
    """Its name."""
    client_id: str
    """Who waits."""
    what: str
    """For which environment."""
    waited_s: float
    """For how long."""
    is_over_quota: bool
    """Whether the tenant has as many slots as it may."""


class Place:
    """A slot in use, until ``leave``.

    Args:
        admission: Which counts it.
        tenant: Whose it is.
        what: For which environment.
        client_id: Of whom.
        waited_s: How long it took to come.
    """

    def __init__(
        self, admission: Admission, tenant: Tenant, what: str, client_id: str, waited_s: float
    ) -> None:
        self._admission = admission
        self.tenant = tenant
        self.what = what
        self.client_id = client_id
        self.waited_s = waited_s
        self._is_left = False

    def leave(self) -> None:
        """Gives the slot to whoever is next. May be called twice."""
        if not self._is_left:
            self._is_left = True
            self._admission._free(self.tenant)


@dataclass(eq=False)
class _Waiter:
    tenant: Tenant
    what: str
    client_id: str
    since_s: float
    granted: asyncio.Future[None]


class Admission:
    """Hands out slots in the order in which they were asked for.

    A tenant that has as many as it may is passed over until it gives one back, and keeps its
    place in the queue meanwhile. Belongs to one event loop.

    Args:
        slots: How many there are.
        max_waiting: Most that may wait; more are refused at once.
        clock: Returns seconds that only grow.

    Raises:
        ConfigError: A number makes no sense.
    """

    def __init__(
        self,
        slots: int,
        *,
        max_waiting: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_range("Admission", "slots", slots, 1, 100_000)
        check_range("Admission", "max_waiting", max_waiting, 0, 1_000_000)
        self.slots = slots
        self.max_waiting = max_waiting
        self.used = 0
        """How many slots are in use."""
        self.refused: Counter[str] = Counter()
        """How many were refused, by the ``cause`` of ``Exhausted``."""
        self.gone = 0
        """How many went away while they waited."""
        self._clock = clock
        self._used_by: Counter[str] = Counter()
        self._waiters: list[_Waiter] = []

    async def wait_for_place(
        self, tenant: Tenant, what: str, timeout_s: float, *, client_id: str = ""
    ) -> Place:
        """Waits for a slot; whoever is cancelled meanwhile leaves the queue.

        Args:
            tenant: Whose quota counts.
            what: For which environment; for messages and the status.
            timeout_s: Longest wait; 0 takes what is free now.
            client_id: Who waits; for messages and the status.

        Raises:
            Exhausted: None came in time, or too many wait.
        """
        began_s = self._clock()
        if not self._waiters and self._is_free(tenant):
            self._take(tenant)
            return Place(self, tenant, what, client_id, 0.0)
        waiter = _Waiter(
            tenant, what, client_id, began_s, asyncio.get_running_loop().create_future()
        )
        self._waiters.append(waiter)
        # Those before it may all be over their quotas.
        self._hand_out()
        if not waiter.granted.done() and self._is_queue_too_long(tenant):
            self._waiters.remove(waiter)
            raise self._refusal("full", waiter, len(self._waiters) + 1, timeout_s)
        await self._wait(waiter, timeout_s)
        return Place(self, tenant, what, client_id, self._clock() - began_s)

    def waiting(self) -> Sequence[Waiting]:
        """Returns the queue, first come first."""
        now_s = self._clock()
        return [
            Waiting(
                position=position,
                tenant=waiter.tenant.name,
                client_id=waiter.client_id,
                what=waiter.what,
                waited_s=now_s - waiter.since_s,
                is_over_quota=self._is_over_quota(waiter.tenant),
            )
            for position, waiter in enumerate(self._waiters, 1)
        ]

    async def _wait(self, waiter: _Waiter, timeout_s: float) -> None:
        if timeout_s > 0:
            try:
                await asyncio.wait({waiter.granted}, timeout=timeout_s)
            except asyncio.CancelledError:
                self.gone += 1
                if waiter.granted.done():
                    self._free(waiter.tenant)
                else:
                    self._waiters.remove(waiter)
                raise
        if waiter.granted.done():
            return
        position = self._waiters.index(waiter) + 1
        cause = "quota" if self._is_over_quota(waiter.tenant) else "slots"
        error = self._refusal(cause, waiter, position, timeout_s)
        self._waiters.remove(waiter)
        raise error

    def _is_queue_too_long(self, tenant: Tenant) -> bool:
        if len(self._waiters) > self.max_waiting:
            return True
        if tenant.queue is None:
            return False
        return sum(waiter.tenant == tenant for waiter in self._waiters) > tenant.queue

    def _is_over_quota(self, tenant: Tenant) -> bool:
        return tenant.quota is not None and self._used_by[tenant.name] >= tenant.quota

    def _is_free(self, tenant: Tenant) -> bool:
        return self.used < self.slots and not self._is_over_quota(tenant)

    def _take(self, tenant: Tenant) -> None:
        self.used += 1
        self._used_by[tenant.name] += 1

    def _free(self, tenant: Tenant) -> None:
        self.used -= 1
        self._used_by[tenant.name] -= 1
        if not self._used_by[tenant.name]:
            del self._used_by[tenant.name]
        self._hand_out()

    def _hand_out(self) -> None:
        if self.used >= self.slots:
            return
        for waiter in list(self._waiters):
            if self.used >= self.slots:
                return
            if self._is_free(waiter.tenant):
                self._take(waiter.tenant)
                self._waiters.remove(waiter)
                waiter.granted.set_result(None)

    def _refusal(self, cause: str, waiter: _Waiter, position: int, timeout_s: float) -> Exhausted:
        self.refused[cause] += 1
        tenant = waiter.tenant
        who_waits = (
            str(self.max_waiting)
            if len(self._waiters) >= self.max_waiting
            else f"{tenant.queue} clients of {tenant.name}"
        )
        why = {
            "full": f"{who_waits} wait already, which is as many as may",
            "slots": f"none of {self.slots} slots came free within {timeout_s:g} s",
            "quota": (
                f"{tenant.name} may have {tenant.quota} slots at a time, has them, and gave none "
                f"back within {timeout_s:g} s"
            ),
        }[cause]
        waiting_for = Counter(other.what for other in self._waiters)
        wanted = ", ".join(f"{count} for {what}" for what, count in waiting_for.most_common(3))
        what_to_do = (
            "close an environment that you no longer need, or ask for a larger quota"
            if cause == "quota"
            else "come again later, or start the gateway with more slots"
        )
        return Exhausted(
            f"{waiter.what}: {why}: {self.used} of {self.slots} are in use, "
            f"{len(self._waiters)} wait ({wanted or 'for none'}), you were number {position} in "
            f"the queue; {what_to_do}",
            cause=cause,
            slots=self.slots,
            used=self.used,
            waiting=len(self._waiters),
            position=position,
        )
