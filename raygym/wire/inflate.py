"""A zlib stream that outlives its messages, and whose output never exceeds what was announced."""

from __future__ import annotations

import zlib

from raygym.errors import RemoteProtocolError


class InflateStream:
    """One direction of a zlib stream.

    Args:
        name: For error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = zlib.decompressobj()

    def reset(self) -> None:
        """Begins a new stream."""
        self._stream = zlib.decompressobj()

    def inflate(self, data: bytes | memoryview, size: int) -> bytes:
        """Inflates data that must give exactly ``size`` bytes.

        Raises:
            RemoteProtocolError: It is damaged, or gives more or fewer bytes.
        """
        plain = self.inflate_up_to(data, size)
        if len(plain) != size:
            raise RemoteProtocolError(
                f"RFB {self._name}: {len(data)} bytes gave {len(plain)} of {size} expected; the "
                "stream is damaged"
            )
        return plain

    def inflate_up_to(self, data: bytes | memoryview, limit: int) -> bytes:
        """Inflates data that must give at most ``limit`` bytes.

        Raises:
            RemoteProtocolError: It is damaged, or gives more.
        """
        try:
            # One byte over the limit lets zlib eat the flush marker that ends the data.
            plain = self._stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise RemoteProtocolError(
                f"RFB {self._name}: zlib says {error}; the stream is damaged"
            ) from error
        if len(plain) > limit or self._stream.eof:
            seen = "the stream ended" if self._stream.eof else f"gave more than {limit}"
            raise RemoteProtocolError(
                f"RFB {self._name}: {len(data)} bytes of zlib data {seen}; the stream is damaged"
            )
        return plain
