"""Messages in a stream of bytes: each follows its length, four bytes, little-endian."""

from __future__ import annotations

from raygym.errors import LocalProtocolError, RemoteProtocolError

MAX_MESSAGE_BYTES = 256 * 2**20
"""Longest message that is sent or taken, if nothing else was agreed on."""

_LENGTH_BYTES = 4


def frame(message: bytes, max_message_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """Returns the bytes that carry one message.

    Raises:
        LocalProtocolError: It is longer than ``max_message_bytes``.
    """
    if len(message) > max_message_bytes:
        raise LocalProtocolError(
            f"a message of {len(message)} bytes is longer than the {max_message_bytes} agreed on; "
            "send fewer environments at a time, or raise max_message_bytes at both ends",
            length=len(message),
        )
    return len(message).to_bytes(_LENGTH_BYTES, "little") + message


class FrameReader:
    """Cuts a stream of bytes into messages.

    It never holds more than came, whatever length was announced.

    Args:
        max_message_bytes: Longest message to take.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._held = bytearray()

    @property
    def is_midway(self) -> bool:
        """Whether a message has begun and not ended; if the stream ends now, it was cut off."""
        return bool(self._held)

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Takes what came; returns the messages that are now whole, in order.

        Raises:
            RemoteProtocolError: A message is announced that is too long. The stream is of no
                more use.
        """
        if not self._held and len(data) >= _LENGTH_BYTES:
            length = self._check(int.from_bytes(data[:_LENGTH_BYTES], "little"))
            if len(data) == _LENGTH_BYTES + length:
                return [bytes(data[_LENGTH_BYTES:])]
        self._held += data
        messages = []
        start, held = 0, memoryview(self._held)
        try:
            while len(held) - start >= _LENGTH_BYTES:
                begin = start + _LENGTH_BYTES
                end = begin + self._check(int.from_bytes(held[start:begin], "little"))
                if end > len(held):
                    break
                messages.append(bytes(held[begin:end]))
                start = end
        finally:
            held.release()
        del self._held[:start]
        return messages

    def _check(self, length: int) -> int:
        if length > self._max_message_bytes:
            raise RemoteProtocolError(
                f"a message of {length} bytes was announced, at most {self._max_message_bytes} are "
                "taken; raise max_message_bytes at both ends, if the peer speaks raygym.v1 at all",
                length=length,
            )
        return length
