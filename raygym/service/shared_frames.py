"""Observations that an actor and the service of one machine share, so that they need not cross.

An actor fills blocks of memory without a name. The service maps a block by way of ``/proc`` and
tells when its last view is gone; the actor fills it again then, while its pages are warm.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import mmap
import os
import secrets
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

_MOST_FREE = 4
_MOST_MAPS = 16
_NAME = "raygym-frames-"


@dataclass(frozen=True)
class FramesAddress:
    """Where a block is; small, and it crosses in the place of the pictures."""

    pid: int
    fd: int
    token: str
    """Tells it from whatever else that process may have there later."""
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its size."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def map(self) -> mmap.mmap:
        """Maps it, to be read.

        Raises:
            OSError: It is gone, or of a process that this one may not look into.
        """
        path = f"/proc/{self.pid}/fd/{self.fd}"
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            if _NAME + self.token not in name:
                raise FileNotFoundError(f"{path} is {name!r} by now")
            return mmap.mmap(descriptor, self.nbytes, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)


class FramesPool:
    """The blocks of an actor. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[FramesAddress, npt.NDArray[Any]]] = []
        self._lent: dict[str, tuple[FramesAddress, npt.NDArray[Any]]] = {}

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Returns an array in a block, one that is free if there is one of that shape."""
        wanted = np.dtype(dtype).str
        with self._lock:
            for row in self._free:
                if (row[0].shape, row[0].dtype) == (shape, wanted):
                    self._free.remove(row)
                    self._lent[row[0].token] = row
                    return row[1]
        address, array = _made(shape, wanted)
        with self._lock:
            self._lent[address.token] = (address, array)
        return array

    def address_of(self, array: npt.NDArray[Any]) -> FramesAddress | None:
        """Returns where an array lies that ``take`` gave, or a view of it; None for any other."""
        with self._lock:
            for address, lent in self._lent.values():
                if lent is array or lent is array.base:
                    return address
        return None

    def give_back(self, token: str) -> None:
        """Takes a block back that nobody looks at any more; an unknown one is ignored."""
        with self._lock:
            row = self._lent.pop(token, None)
            if row is not None and len(self._free) < _MOST_FREE:
                self._free.append(row)
                row = None
        if row is not None:
            os.close(row[0].fd)

    def close(self) -> None:
        """Gives all blocks up; those that are mapped elsewhere last there."""
        with self._lock:
            rows = [*self._free, *self._lent.values()]
            self._free.clear()
            self._lent.clear()
        for address, _ in rows:
            os.close(address.fd)


class FramesReader:
    """Maps the blocks of one actor, as a rule each once."""

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        self._freed: collections.deque[str] = collections.deque()

    def read(self, address: FramesAddress) -> npt.NDArray[Any]:
        """Returns a read-only array over a block, which is free again once its last view is gone.

        Raises:
            OSError: See ``FramesAddress.map``.
        """
        memory = self._maps.pop(address.token, None) or address.map()
        self._maps[address.token] = memory
        if len(self._maps) > _MOST_MAPS:
            # The one that was not read for longest; views of it keep it mapped.
            del self._maps[next(iter(self._maps))]
        array: npt.NDArray[Any] = np.ndarray(address.shape, address.dtype, memory)
        weakref.finalize(array, self._freed.append, address.token).atexit = False
        return array

    def take_freed(self) -> list[str]:
        """Returns the tokens of the blocks that became free since the last call."""
        freed = []
        with contextlib.suppress(IndexError):
            while True:
                freed.append(self._freed.popleft())
        return freed


def can_map(address: FramesAddress | None) -> bool:
    """Returns whether this process can look into another's blocks."""
    if address is None:
        return False
    try:
        address.map().close()
    except OSError as error:
        log.info("frames.not_shared pid=%d cause=%s", address.pid, error)
        return False
    return True


def _made(shape: tuple[int, ...], dtype: str) -> tuple[FramesAddress, npt.NDArray[Any]]:
    token = secrets.token_hex(8)
    descriptor = os.memfd_create(_NAME + token, os.MFD_CLOEXEC)
    address = FramesAddress(os.getpid(), descriptor, token, shape, dtype)
    os.ftruncate(descriptor, max(1, address.nbytes))
    memory = mmap.mmap(descriptor, max(1, address.nbytes))
    return address, np.ndarray(shape, dtype, memory)
