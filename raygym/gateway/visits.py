"""One client's stream at a gateway: what it leases, and what it asks the remote."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from raygym.errors import RaygymError
from raygym.gateway.config import LeaseLimits
from raygym.gateway.leasing import Held, Leasing, Wanted
from raygym.gateway.lines import Line, open_line
from raygym.gateway.offers import Offers
from raygym.gateway.stream_tally import StreamTally
from raygym.gateway.tenants import Tenant
from raygym.wire.proto import raygym_v1_pb2 as pb

log = logging.getLogger(__name__)

OpenLine = Callable[..., Awaitable[Line]]
"""As ``open_line``."""


@dataclass(frozen=True, kw_only=True)
class House:
    """What all visits of a gateway have in common."""

    leasing: Leasing
    offers: Offers
    limits: LeaseLimits
    tally: StreamTally
    max_request_bytes: int
    open_line: OpenLine = open_line


class Visit:
    """A client's stream: at most one lease, and one line to its remote.

    Args:
        house: The gateway.
        tenant: Whose client it is.
        method: What the client speaks, and the line too.
        client_id: As its metadata says; empty where they say nothing.
    """

    def __init__(self, house: House, tenant: Tenant, method: str, client_id: str) -> None:
        self.house = house
        self.tenant = tenant
        self.client_id = client_id
        self._method = method
        self._held: Held | None = None
        self._line: Line | None = None
        self._is_asking = False

    @property
    def held(self) -> Held | None:
        """The lease of now, if there is one."""
        return self._held

    async def lease(self, env_id: str, client_id: str = "") -> Held:
        """Waits for a remote, and opens a line to it.

        Args:
            env_id: As the client wrote it.
            client_id: Name that it gave itself in a message; that of its metadata goes first.

        Raises:
            Exhausted, ConfigError, LeaseHeld, RemoteError, MissingDependency: See
                ``Leasing.lease``.
        """
        wanted = await self.find(env_id)
        wanted = replace(wanted, client_id=self.client_id or client_id)
        self._held = await self.house.leasing.lease(wanted, self.tenant)
        timeout_s = self.house.limits.answer_timeout_s
        try:
            self._line = await self.house.open_line(
                self._held.remote, self._method, timeout_s=timeout_s
            )
        except BaseException:
            await self.give_back(is_whole=False)
            raise
        return self._held

    async def find(self, env_id: str) -> Wanted:
        """Returns what an id stands for.

        Raises:
            ConfigError: It is not offered, or nobody knows it.
        """
        # The first look at an id may import a package.
        return await self.house.leasing.in_thread(
            lambda: self.house.offers.find(env_id, "lockstep")
        )

    async def ask(self, request: bytes) -> bytes:
        """Returns the remote's answer.

        Raises:
            SessionLost, StepTimeout: The remote is lost.
        """
        assert self._line is not None  # noqa: S101  whoever asks has leased
        began_s = time.perf_counter()
        # A remote that still works on a request is not whole.
        self._is_asking = True
        answer = await self._line.ask(request)
        self._is_asking = False
        self.house.tally.add(time.perf_counter() - began_s, len(request), len(answer))
        return answer

    def count_refusal(self, code: int) -> None:
        """Counts a request that was refused, by the number of gRPC's status."""
        self.house.tally.refused[pb.Error.Code.Name(code)] += 1

    async def lose(self, why: str) -> None:
        """Gives a remote back that broke.

        Args:
            why: What was seen, for the log.
        """
        if self._held is not None:
            await self._held.note_loss(why)
        await self.give_back(is_whole=False)

    async def give_back(self, *, is_whole: bool = True) -> None:
        """Ends the line and the lease, if there are any; there may be another one then.

        Args:
            is_whole: Whether the remote is well, as far as the caller knows.
        """
        held, self._held = self._held, None
        line, self._line = self._line, None
        is_whole, self._is_asking = is_whole and not self._is_asking, False
        if line is not None:
            with contextlib.suppress(RaygymError, OSError):
                await line.close()
        if held is None:
            return
        if is_whole:
            await held.release()
        else:
            await held.remove()
