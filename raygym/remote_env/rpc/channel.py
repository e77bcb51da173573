"""What carries one conversation."""

from __future__ import annotations

from typing import Protocol

from raygym.errors import RemoteUnreachable

METHOD = "/raygym.v1.Environments/Converse"
"""gRPC's name of a conversation of raygym.v1."""


class RpcChannel(Protocol):
    """Carries one conversation; one request is under way at a time."""

    def ask(self, request: bytes, *, timeout_s: float) -> bytes | bytearray:
        """Sends a message and returns the next that comes back.

        After any error the channel is closed.

        Args:
            request: A serialised request.
            timeout_s: Longest wait.

        Raises:
            SessionLost: The peer is gone.
            StepTimeout: No answer came in time.
            RemoteError, ProtocolError: The peer ended the conversation and said why.
        """

    def close(self) -> None:
        """Ends the conversation; may be called twice."""


class MethodUnknown(RemoteUnreachable):
    """A gRPC server does not know the method that was called."""
