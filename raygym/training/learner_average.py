"""How learners take the mean of a vector: through memory that they share, or with gloo.

On one machine a mean through shared memory costs a fraction of one through gloo, whose threads
have to be woken for each; between machines there is gloo. Both give every learner the same
numbers, bit by bit.
"""

from __future__ import annotations

import mmap
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from raygym.errors import RaygymError
from raygym.machine import process_exists

MEETING_TIMEOUT_S = 60.0
"""Longest wait for all learners to come together."""
PEER_TIMEOUT_S = 600.0
"""Longest wait for a learner that lives; it may be waiting for a slot of its own."""
ORDERED_STORES = ("x86_64", "AMD64")
"""Processors on which what one core writes is seen by others in the order of writing."""

_SHARED_DIRECTORY = Path("/dev/shm")  # noqa: S108 - memory, not a file that others could plant
_LINE = 8
_BUSY_TURNS = 300
_YIELD_S = 0.005
_NAP_S = 0.0002
_LOOK_S = 0.1
_CAME = "raygym/came"


class PeerLost(RaygymError):
    """Another learner ended, or the group is being built anew; no mean was taken."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Where the learners of a group meet."""

    kind: Literal["memory", "gloo"]
    """Through what they take means."""
    place: str
    """Path of the shared block; or the host where learner 0 keeps the store."""
    port: int = 0
    """TCP port of the store."""
    size: int
    """Longest vector."""
    num_learners: int


class Averaging(Protocol):
    """What takes means over all learners."""

    def __call__(self, vector: Tensor) -> None:
        """Replaces float32[N] by its mean over all learners.

        Raises:
            PeerLost: One of them is gone.
        """
        ...

    def close(self) -> None:
        """Leaves the group; may be called twice."""
        ...


def kind_for(nodes: set[str]) -> Literal["memory", "gloo"]:
    """Returns how learners on these nodes take means."""
    is_ordered = platform.machine() in ORDERED_STORES
    return "memory" if len(nodes) == 1 and is_ordered and _SHARED_DIRECTORY.is_dir() else "gloo"


class Host:
    """Learner 0's part of a meeting: the shared block, or the store of gloo.

    Args:
        kind: Through what means are taken.
        address: Of this machine, as the other learners reach it.
        size: Longest vector.
        num_learners: How many will come.
    """

    def __init__(
        self, kind: Literal["memory", "gloo"], *, address: str, size: int, num_learners: int
    ) -> None:
        self._path: Path | None = None
        self.store: Any = None
        if kind == "memory":
            descriptor, name = tempfile.mkstemp(prefix="raygym-learners-", dir=_SHARED_DIRECTORY)
            os.truncate(descriptor, _block_bytes(num_learners, size))
            os.close(descriptor)
            self._path = Path(name)
            place, port = name, 0
        else:
            self.store = _store(address, 0, num_learners, is_master=True)
            place, port = address, self.store.port
        self.meeting = Meeting(
            kind=kind, place=place, port=port, size=size, num_learners=num_learners
        )

    def close(self) -> None:
        """Takes the shared block's name away, once all have come or none will."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def join(
    meeting: Meeting, rank: int, *, host: Host | None = None, has_to_leave: threading.Event
) -> Averaging:
    """Comes to a meeting; returns once all learners are there.

    Args:
        meeting: Where.
        rank: Number of this learner.
        host: The meeting's host, for learner 0.
        has_to_leave: Ends a wait when it is set.

    Raises:
        PeerLost: Not all came in time.
    """
    if meeting.kind == "memory":
        return MemoryAverage(meeting, rank, has_to_leave=has_to_leave)
    store = host.store if host else None
    return GlooAverage(meeting, rank, store=store, has_to_leave=has_to_leave)


class MemoryAverage:
    """Means through a block of memory that all learners of one machine map.

    Each writes its vector, says so, waits for the others and sums all of them in one order. Two
    sets of rows take turns, so that nobody writes where another still reads.

    Args:
        meeting: Where the block is.
        rank: Number of this learner.
        has_to_leave: Ends a wait when it is set.
        clock: Seconds, steady.

    Raises:
        PeerLost: Not all came in time.
    """

    def __init__(
        self,
        meeting: Meeting,
        rank: int,
        *,
        has_to_leave: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rank, self._count = rank, meeting.num_learners
        self._has_to_leave = has_to_leave
        self._clock = clock
        try:
            descriptor = os.open(meeting.place, os.O_RDWR)
        except OSError as error:
            raise PeerLost(f"the learners' block {meeting.place} is gone: {error}") from error
        try:
            block = mmap.mmap(descriptor, _block_bytes(self._count, meeting.size))
        finally:
            os.close(descriptor)
        header = np.frombuffer(block, np.int64, count=2 * self._count * _LINE)
        self._ticks, self._pids = header.reshape(2, self._count, _LINE)[:, :, 0]
        rows = np.frombuffer(block, np.float32, offset=header.nbytes)
        self._rows = torch.from_numpy(rows.reshape(2, self._count, meeting.size))
        self._tick = 1
        self._pids[rank] = os.getpid()
        self._ticks[rank] = 1
        self._wait(MEETING_TIMEOUT_S)

    def __call__(self, vector: Tensor) -> None:
        """Replaces a vector by its mean over all learners."""
        self._tick += 1
        rows = self._rows[self._tick % 2, :, : vector.numel()]
        rows[self._rank] = vector
        self._ticks[self._rank] = self._tick
        self._wait(PEER_TIMEOUT_S)
        vector.copy_(rows[0])
        for row in rows[1:]:
            vector.add_(row)
        vector.mul_(1.0 / self._count)

    def close(self) -> None:
        """Leaves; the memory goes with the last learner that maps it."""
        self._has_to_leave.set()

    def _wait(self, timeout_s: float) -> None:
        ticks, tick = self._ticks, self._tick
        for _ in range(_BUSY_TURNS):
            if ticks.min() >= tick:
                return
        started_s = looked_s = self._clock()
        while ticks.min() < tick:
            now_s = self._clock()
            if self._has_to_leave.is_set():
                raise PeerLost("the group of learners is being built anew")
            if now_s - looked_s > _LOOK_S:
                looked_s = now_s
                self._check_peers()
            if now_s - started_s > timeout_s:
                late = np.flatnonzero(ticks < tick).tolist()
                raise PeerLost(f"learners {late} were silent for {timeout_s:.0f} s")
            if now_s - started_s < _YIELD_S:
                os.sched_yield()
            else:
                time.sleep(_NAP_S)

    def _check_peers(self) -> None:
        for rank, pid in enumerate(self._pids.tolist()):
            if pid and not process_exists(pid):
                raise PeerLost(f"learner {rank} (process {pid}) ended")


class GlooAverage:
    """Means with gloo, PyTorch's collectives over TCP.

    Args:
        meeting: Where the store is.
        rank: Number of this learner.
        store: The store itself, for the learner that keeps it.
        has_to_leave: Ends the wait for the others when it is set.

    Raises:
        PeerLost: Not all came in time.
    """

    def __init__(
        self,
        meeting: Meeting,
        rank: int,
        *,
        store: Any = None,
        has_to_leave: threading.Event,
    ) -> None:
        self._count = meeting.num_learners
        try:
            self._store = store or _store(meeting.place, meeting.port, self._count, is_master=False)
            _await_all(self._store, self._count, has_to_leave)
            # The stubs of torch have neither the options nor the collectives.
            gloo: Any = distributed.ProcessGroupGloo
            options = gloo._Options()
            options._timeout = timedelta(seconds=MEETING_TIMEOUT_S)
            options._devices = [gloo.create_device(hostname=_own_address(meeting))]
            self._group: Any = gloo(self._store, rank, self._count, options)
            self._group._set_default_timeout(timedelta(seconds=PEER_TIMEOUT_S))
        # torch raises DistStoreError and others, all RuntimeErrors.
        except RuntimeError as error:
            raise PeerLost(f"the learners did not come together: {error}") from error

    def __call__(self, vector: Tensor) -> None:
        """Replaces a vector by its mean over all learners."""
        try:
            self._group.allreduce([vector]).wait()
        except RuntimeError as error:
            raise PeerLost(f"a learner was lost: {error}") from error
        vector.mul_(1.0 / self._count)

    def close(self) -> None:
        """Leaves; the connections end with the group."""
        del self._group


def _store(host: str, port: int, num_learners: int, *, is_master: bool) -> Any:
    """Opens gloo's store, or comes to it; port 0 takes a free one."""
    # The stubs of torch do not export it.
    return distributed.TCPStore(  # type: ignore[attr-defined]
        host,
        port,
        num_learners,
        is_master=is_master,
        timeout=timedelta(seconds=MEETING_TIMEOUT_S),
        wait_for_workers=False,
    )


def _await_all(store: Any, num_learners: int, has_to_leave: threading.Event) -> None:
    """Waits until all have come to a store; gloo itself would not hear that it has to leave.

    Raises:
        PeerLost: Not all came in time, or this learner has to leave.
    """
    until_s = time.monotonic() + MEETING_TIMEOUT_S
    came = store.add(_CAME, 1)
    while came < num_learners:
        if has_to_leave.wait(_LOOK_S):
            raise PeerLost("the group of learners is being built anew")
        if time.monotonic() > until_s:
            raise PeerLost(
                f"{came} of {num_learners} learners came together in {MEETING_TIMEOUT_S:.0f} s"
            )
        came = store.add(_CAME, 0)


def _own_address(meeting: Meeting) -> str:
    """Returns the address of this machine on the way to the store; nothing is sent."""
    family, kind, *_, place = socket.getaddrinfo(
        meeting.place, meeting.port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind) as way:
        way.connect(place)
        return str(way.getsockname()[0])


def _block_bytes(num_learners: int, size: int) -> int:
    return 2 * num_learners * _LINE * 8 + 2 * num_learners * size * 4
