"""What a worker is at, in memory that outlives it, whatever way it ends.

A worker writes it as it goes on, which costs no system call; its owner reads it when the worker
is overdue or dead, and so knows which request to answer in its place.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_HEAD = struct.Struct("<IIQQI")  # state, kind, id, since in ns, number of envs
_MADE_BYTES = struct.Struct("<Q")
_MADE_BYTES_AT = _HEAD.size
_ENVS_AT = 64
_MADE_AT_LEAST = 65536


class Stage(enum.IntEnum):
    """Of a worker."""

    STARTING = 0
    """It imports, and makes its environments anew if there were some before."""
    IDLE = 1
    """It waits for a request."""
    READING = 2
    """A request has come in part."""
    HANDLING = 3
    """It does what a request says."""
    WRITING = 4
    """A response is on its way, maybe in part."""


KINDS = (None, "hello", "make", "reset", "step", "render")
"""Bodies of a request, by their number."""


@dataclass(frozen=True)
class Entry:
    """What a worker was at."""

    stage: Stage
    kind: str | None
    """Of the request that it handles."""
    request_id: int
    since_s: float
    """When that began, in seconds of ``time.monotonic``."""
    envs: tuple[int, ...]
    """The environments that were asked for; none means all."""


class Ledger:
    """The notes of one worker.

    Args:
        max_envs: Most environments that a request can name.
        fd: An open one, which then belongs to this; None makes one.
    """

    def __init__(self, max_envs: int, fd: int | None = None) -> None:
        self.fd = os.memfd_create("raygym-ledger", os.MFD_CLOEXEC) if fd is None else fd
        self._made_at = max(_MADE_AT_LEAST, -(-(_ENVS_AT + 4 * max_envs) // 4096) * 4096)
        if fd is None:
            os.ftruncate(self.fd, self._made_at)
        self._map = mmap.mmap(self.fd, self._made_at)
        self._room = (self._made_at - _ENVS_AT) // 4

    def stage(self, stage: Stage) -> None:
        """Notes what is done about the same request next."""
        self._map[0] = stage

    def begin(
        self, stage: Stage, kind: str | None, request_id: int, envs: Sequence[int] = ()
    ) -> None:
        """Notes that a request is handled from now on."""
        count = min(len(envs), self._room)
        if count:
            data = np.fromiter(envs, "<u4", count).tobytes()
            self._map[_ENVS_AT : _ENVS_AT + len(data)] = data
        now_ns = time.monotonic_ns()
        number = KINDS.index(kind)
        _HEAD.pack_into(self._map, 0, stage, number, request_id, now_ns, count)

    def read(self) -> Entry:
        """Returns what is noted; damage done by a dying worker gives a harmless entry."""
        stage, kind, request_id, since_ns, count = _HEAD.unpack_from(self._map)
        envs = np.frombuffer(self._map, "<u4", min(count, self._room), _ENVS_AT)
        return Entry(
            Stage(stage) if stage in list(Stage) else Stage.WRITING,
            KINDS[kind] if kind < len(KINDS) else None,
            request_id,
            since_ns / 1e9,
            tuple(envs.tolist()),
        )

    def keep_made(self, made: bytes) -> None:
        """Notes the Made that answered a Make."""
        os.pwrite(self.fd, made, self._made_at)
        _MADE_BYTES.pack_into(self._map, _MADE_BYTES_AT, len(made))

    def made(self) -> bytes | None:
        """Returns the Made, or None if there is none yet."""
        (size,) = _MADE_BYTES.unpack_from(self._map, _MADE_BYTES_AT)
        if not 0 < size <= os.fstat(self.fd).st_size:
            return None
        return os.pread(self.fd, size, self._made_at)

    def close(self) -> None:
        """Gives it up. May be called twice."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1
