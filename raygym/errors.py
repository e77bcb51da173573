"""Every exception that raygym raises on purpose.

The tree::

    RaygymError
    ├── ConfigError              a setting, address or argument makes no sense
    ├── RemoteError              something is wrong with a Remote
    │   ├── RemoteUnreachable    nobody answered in time
    │   ├── RemoteFailedToStart  it was started and did not get ready
    │   ├── SessionLost          a conversation ended; the Remote may be well
    │   ├── FrameTimeout         the screen gave no picture in time
    │   ├── StepTimeout          a request in lock-step was not answered in time
    │   └── RemoteEnvError       the environment at the far end raised
    ├── ProtocolError            bytes that the protocol does not allow
    │   ├── LocalProtocolError   this side broke the rules
    │   ├── RemoteProtocolError  the other side broke the rules
    │   └── HandshakeRefused     no common version, or a wrong password
    ├── LeaseError               the right to a Remote
    │   ├── LeaseHeld            another Client has it
    │   ├── LeaseExpired         it was not renewed in time
    │   └── RuntimeMismatch      the Remote cannot host that environment
    └── MissingDependency        a program or package that the job needs is absent

Modules add leaves of their own where a caller must tell them apart. A message says what
failed, on what, what was seen and what to do.
"""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[RaygymError], message: str, fields: dict[str, Any]) -> RaygymError:
    return cls(message, **fields)


class RaygymError(Exception):
    """Base of the tree; its keyword arguments become attributes and survive pickling.

    Args:
        message: What failed, on what, what was seen, what to do.
        **fields: Values worth reading by a program, such as ``remote_id``.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        fields: dict[str, Any] = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.fields)


class ConfigError(RaygymError, ValueError):
    """A setting, address or argument makes no sense; nothing was started."""


class RemoteError(RaygymError):
    """Something is wrong with a Remote."""


class RemoteUnreachable(RemoteError):
    """Nothing answered at an Endpoint within the time allowed."""


class RemoteFailedToStart(RemoteError):
    """A Remote was started and did not get ready; the message ends with its own log."""


class SessionLost(RemoteError):
    """A conversation with a Remote ended; the Remote itself may be well."""


class FrameTimeout(RemoteError):
    """The screen gave no picture within the time allowed."""


class StepTimeout(RemoteError):
    """A Remote in lock-step did not answer in time; the next reset mends it."""


class RemoteEnvError(RemoteError):
    """The environment at the far end raised, or ended its process; the next reset mends it.

    Its fields are ``type``, the qualified name of what was raised there (empty where nothing
    was), and ``remote_traceback``, which also shows below the error's own.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        fields = {"type": "", "remote_traceback": "", **fields}
        super().__init__(message, **fields)
        if fields["remote_traceback"]:
            self.add_note(f"At the far end:\n{fields['remote_traceback']}")


class ProtocolError(RaygymError):
    """Bytes that a protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol does not allow now."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that the protocol does not allow."""


class HandshakeRefused(ProtocolError):
    """No common protocol version or security type was found, or the password was wrong."""


class LeaseError(RaygymError):
    """The right of a Client to a Remote."""


class LeaseHeld(LeaseError):
    """Another Client holds the Remote."""


class LeaseExpired(LeaseError):
    """A Lease was not renewed in time."""


class RuntimeMismatch(LeaseError):
    """A Remote cannot host that environment: it belongs to another Runtime."""


class MissingDependency(RaygymError):
    """A program or package that the job needs is absent; the message says how to get it."""
