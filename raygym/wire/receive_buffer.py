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

    __slots__ = ("_kept", "_position", "_taken_before_bytes", "_view", "available")

    def __init__(self) -> None:
        self._view = _EMPTY
        self._position = 0
        self._kept = bytearray()
        self._taken_before_bytes = 0
        self.available = 0
        """Bytes that can be taken without waiting."""

    @property
    def taken_bytes(self) -> int:
        """Bytes taken in all."""
        return self._taken_before_bytes + self._position

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
        position = self._position
        self._position = end = position + count
        self.available -= count
        return self._view[position:end]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Takes one record of fixed size."""
        position = self._position
        self._position = position + layout.size
        self.available -= layout.size
        return layout.unpack_from(self._view, position)

    def take_byte(self) -> int:
        """Takes one byte as a number."""
        position = self._position
        self._position = position + 1
        self.available -= 1
        return self._view[position]

    def take_rest(self) -> bytes:
        """Takes everything that is there."""
        self._keep()
        rest, self._kept = bytes(self._kept), bytearray()
        self._taken_before_bytes += len(rest)
        return rest

    def _keep(self) -> None:
        if self.available:
            self._kept += self._view[self._position :]
        self._view = _EMPTY
        self._taken_before_bytes += self._position
        self._position = 0
        self.available = 0
