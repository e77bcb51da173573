"""Bytes that came and wait to be parsed."""

from __future__ import annotations

import struct
from typing import Any

_EMPTY = memoryview(b"")


class ReceiveBuffer:
    """A queue of bytes for a push parser.

    Parsing happens on the caller's own bytes where that is possible; a byte is copied only
    when it has to wait for those after it, so small reads cost no more than linear time.

    A parser looks at ``available`` and takes; where bytes are missing its driver calls
    ``wait_for(count)``, which also lets go of the caller's memory.
    """

    __slots__ = ("_kept", "_view", "available", "taken_bytes")

    def __init__(self) -> None:
        self._view = _EMPTY
        self._kept = bytearray()
        self.available = 0
        """Bytes that can be taken without waiting."""
        self.taken_bytes = 0
        """Bytes taken in all."""

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes; ``data`` must not change until ``wait_for`` has returned False."""
        self._keep()
        if self._kept:
            self._kept += data
        else:
            self._view = memoryview(data)
            self.available = len(self._view)

    def wait_for(self, count: int) -> bool:
        """Returns whether ``count`` bytes can be taken; if not, keeps copies of those there."""
        if self._kept and len(self._kept) >= count:
            self._view, self._kept = memoryview(self._kept), bytearray()
            self.available = len(self._view)
        if self.available >= count:
            return True
        self._keep()
        return False

    def take(self, count: int) -> memoryview:
        """Takes ``count`` of the available bytes; drop the view before the next wait."""
        taken = self._view[:count]
        self._view = self._view[count:]
        self.available -= count
        self.taken_bytes += count
        return taken

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Takes one record of fixed size."""
        return layout.unpack(self.take(layout.size))

    def take_byte(self) -> int:
        """Takes one byte as a number."""
        return self.take(1)[0]

    def take_rest(self) -> bytes:
        """Takes everything that is there."""
        self._keep()
        rest, self._kept = bytes(self._kept), bytearray()
        self.taken_bytes += len(rest)
        return rest

    def _keep(self) -> None:
        if self.available:
            self._kept += self._view
        self._view = _EMPTY
        self.available = 0
