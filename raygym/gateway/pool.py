"""The remotes of a gateway: started, kept for a while after use, and removed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from raygym.core import Backend, Remote
from raygym.errors import RaygymError

T = TypeVar("T")

log = logging.getLogger(__name__)

_THREADS = 16
_STARTS_AT_ONCE = 8
_CLOSE_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client asks for."""

    env_id: str
    """As the catalog has it: ``gym-core.CartPole-v1``."""
    runtime: str
    """Name of its Runtime."""
    mode: Literal["lockstep", "realtime"] = "lockstep"
    """Who owns time."""
    client_id: str = ""
    """Steady name of the client, within its tenant; empty: one is made up."""

    @property
    def kind(self) -> tuple[str, ...]:
        """What remotes that serve it have in common."""
        return self.runtime, self.mode, self.env_id


OpenBackend = Callable[[Wanted], Backend]
"""Makes the Backend of one kind of remotes; may block; raises RaygymError."""


@dataclass(eq=False)
class House:
    """One Backend, and how many remotes of it there are."""

    backend: Backend
    kind: tuple[str, ...]
    remotes: int = 0


@dataclass(frozen=True)
class Housed:
    """A remote, and where it comes from."""

    remote: Remote
    house: House


@dataclass(frozen=True)
class _Kept:
    housed: Housed
    owner: tuple[str, str]
    until_s: float


class RemotePool:
    """Starts and keeps remotes; belongs to one event loop, and does what blocks on threads.

    Args:
        open_backend: Makes Backends; called on a thread.
        keep_s: How long a remote is kept after use; 0 not at all.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self,
        open_backend: OpenBackend,
        *,
        keep_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.started = 0
        """How many remotes were started so far."""
        self.reused = 0
        """How many uses found one that was kept."""
        self.failed = 0
        """How many did not start."""
        self.starting = 0
        """How many are being started."""
        self._open_backend = open_backend
        self._keep_s = keep_s
        self._clock = clock
        self._houses: dict[tuple[str, ...], House] = {}
        self._kept: list[_Kept] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._threads = concurrent.futures.ThreadPoolExecutor(
            _THREADS, thread_name_prefix="raygym-remotes"
        )

    @property
    def idle(self) -> int:
        """How many remotes are kept that nobody uses."""
        return len(self._kept)

    async def obtain(self, wanted: Wanted, owner: tuple[str, str], most_idle: int) -> Housed:
        """Returns a remote: the one that the client had, another of its tenant, or a new one.

        Args:
            wanted: Of which kind.
            owner: Name of the tenant, and of its client.
            most_idle: How many may be left idle where another is started.

        Raises:
            RaygymError: It did not start, or there is no such environment.
        """
        while (kept := self._take(wanted, owner)) is not None:
            if await self.lives(kept):
                self.reused += 1
                return kept
            await self.remove(kept)
        surplus = self._kept[: max(0, len(self._kept) - max(0, most_idle))]
        del self._kept[: len(surplus)]
        await asyncio.gather(*(self.remove(kept.housed) for kept in surplus))
        return await self._start(wanted, owner)

    async def put_back(self, housed: Housed, owner: tuple[str, str]) -> None:
        """Keeps a whole remote for its tenant, or ends it where none are kept."""
        if self._keep_s > 0:
            self._kept.append(_Kept(housed, owner, self._clock() + self._keep_s))
        else:
            await self.remove(housed)

    async def remove(self, housed: Housed) -> None:
        """Ends a remote."""
        house, remote_id = housed.house, housed.remote.id
        try:
            await self.in_thread(lambda: house.backend.remove(remote_id))
        except (RaygymError, OSError) as error:
            log.warning("gateway.not_removed remote_id=%s cause=%s", remote_id, error)
        finally:
            house.remotes -= 1

    async def lives(self, housed: Housed) -> bool:
        """Returns whether a remote is there, and ours."""
        backend, remote_id = housed.house.backend, housed.remote.id

        def lives() -> bool:
            return backend.holds(remote_id) and any(r.id == remote_id for r in backend.list())

        return await self.in_thread(lives)

    def sweep(self) -> None:
        """Begins to end the remotes that were kept long enough, and Backends without any."""
        now_s = self._clock()
        over = [kept for kept in self._kept if kept.until_s <= now_s]
        self._kept = [kept for kept in self._kept if kept.until_s > now_s]
        for kept in over:
            self._go(self.remove(kept.housed))
        for house in [house for house in self._houses.values() if not house.remotes]:
            del self._houses[house.kind]
            self._go(self._close(house))

    async def close(self) -> None:
        """Ends every remote, also those in use. May be called twice."""
        self._keep_s = 0.0
        self._kept.clear()
        for house in self._houses.values():
            self._go(self._close(house))
        self._houses.clear()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSE_TIMEOUT_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, job: Callable[[], T]) -> T:
        """Runs what blocks on a thread; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)

    def _take(self, wanted: Wanted, owner: tuple[str, str]) -> Housed | None:
        def fitting(kept: _Kept) -> bool:
            return kept.owner[0] == owner[0] and kept.housed.house.kind == wanted.kind

        found = [kept for kept in self._kept if fitting(kept)]
        own = [kept for kept in found if kept.owner == owner]
        if not found:
            return None
        chosen = (own or found)[0]
        self._kept.remove(chosen)
        return chosen.housed

    async def _start(self, wanted: Wanted, owner: tuple[str, str]) -> Housed:
        self.starting += 1
        house = None
        try:
            async with self._starts:
                house = await self._house(wanted)
                backend, client_id = house.backend, ".".join(owner)
                remote = await self.in_thread(
                    lambda: backend.start(wanted.runtime, client_id=client_id)
                )
        except BaseException:
            self.failed += 1
            if house is not None:
                house.remotes -= 1
            raise
        finally:
            self.starting -= 1
        self.started += 1
        return Housed(remote, house)

    async def _house(self, wanted: Wanted) -> House:
        """Returns where such remotes come from, with one more of them counted."""
        async with self._opening:
            house = self._houses.get(wanted.kind)
            if house is None:
                backend = await self.in_thread(lambda: self._open_backend(wanted))
                house = self._houses[wanted.kind] = House(backend, wanted.kind)
            # Counted at once, so that a sweep does not close it.
            house.remotes += 1
            return house

    async def _close(self, house: House) -> None:
        try:
            await self.in_thread(house.backend.close)
        except (RaygymError, OSError) as error:
            log.warning("gateway.not_closed cause=%s", error)

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def settle(tasks: Sequence[asyncio.Task[Any]], timeout_s: float) -> None:
    """Waits for tasks; those that take longer are cancelled."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    for task in late:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*late, return_exceptions=True)
