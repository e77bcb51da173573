"""Answers that any lock-step server gives: to a Hello, to what makes no sense, to a failure."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raygym.core import Outcome
from raygym.errors import RaygymError
from raygym.machine import machine_id
from raygym.runtimes.lockstep.limits import Limits
from raygym.wire.proto import raygym_v1_pb2 as pb

VERSION = 1
"""Of the protocol."""

_MAX_MESSAGE_CHARS = 8_000
_MAX_TRACEBACK_CHARS = 16_000


class Refused(RaygymError):
    """A request that nothing was done about; its field ``code`` is a ``pb.Error.Code``."""


def refused(code: Any, message: str) -> Refused:
    """Returns the error to raise about a request.

    Args:
        code: One of ``pb.Error.Code``.
        message: What was asked, what is allowed.
    """
    return Refused(message, code=code)


def error_response(
    request_id: int, code: Any, message: str, *, is_passing: bool = False
) -> pb.Response:
    """Returns the answer to a request that nothing was done about.

    Args:
        request_id: Of the request.
        code: gRPC's number.
        message: Why.
        is_passing: Whether the same request may succeed later.
    """
    error = pb.Error(code=code, message=_cut(message), is_passing=is_passing)
    return pb.Response(id=request_id, error=error)


def error_of(error: BaseException, code: Any = pb.Error.UNKNOWN) -> pb.Error:
    """Returns an exception with its type, message and traceback."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    text = "".join(traceback.format_exception(error))
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  an exception of somebody else's making may do anything
        message = "(its message cannot be made)"
    return pb.Error(
        code=code,
        message=_cut(message),
        type=module + kind.__qualname__,
        traceback=_clean(text[-_MAX_TRACEBACK_CHARS:]),
    )


def failure(env: int, outcome: Outcome, error: pb.Error) -> pb.Failure:
    """Returns the report of one environment that raised or was lost."""
    return pb.Failure(env=env, outcome=str(outcome), error=error)


@dataclass(frozen=True, kw_only=True)
class Face:
    """What a server says of itself."""

    runtime: str = ""
    """Name of the Runtime."""
    env_ids: tuple[str, ...] = ()
    """What Make may ask for; none: one environment without a name."""
    modes: tuple[str, ...] = ("lockstep",)
    """How its environments may be played."""
    local_socket: str = ""
    """Where it speaks framed messages; a leading NUL is Linux's abstract namespace, and a bare
    name is in the directory of the socket that the client came by."""

    def is_shared_with(self, hello: pb.Hello) -> bool:
        """Whether a client can reach the local socket, and open the files of shared memory."""
        is_bare = bool(self.local_socket) and self.local_socket[0] not in "/\0"
        return is_bare or is_same_machine(hello)

    def welcome(self, hello: pb.Hello, limits: Limits) -> pb.Welcome:
        """Returns the answer to a Hello.

        Raises:
            Refused: The client speaks no version that this server speaks.
        """
        if hello.version < VERSION:
            raise refused(
                pb.Error.FAILED_PRECONDITION,
                f"hello: the client speaks version {hello.version} of raygym.v1, and this server "
                f"speaks {VERSION}",
            )
        return pb.Welcome(
            version=VERSION,
            runtime=self.runtime,
            env_ids=self.env_ids,
            modes=self.modes,
            machine=machine_id(),
            local_socket=self.local_socket if self.is_shared_with(hello) else "",
            max_message_bytes=limits.max_message_bytes,
            max_envs=limits.max_envs,
        )


def is_same_machine(hello: pb.Hello) -> bool:
    """Whether the client could open a file of this process."""
    return bool(hello.machine) and hello.machine == machine_id()


def indices(asked: Sequence[int], count: int) -> list[int]:
    """Returns the environments that a request is for; none asked for means all.

    Raises:
        Refused: There is no such environment, or one is named twice.
    """
    if not asked:
        return list(range(count))
    found = list(asked)
    if len(set(found)) != len(found):
        raise refused(pb.Error.INVALID_ARGUMENT, f"envs: an environment is named twice: {found}")
    if max(found) >= count:
        raise refused(
            pb.Error.INVALID_ARGUMENT,
            f"envs: there is no environment {max(found)}; this conversation has {count}, from 0",
        )
    return found


def _cut(text: str) -> str:
    return _clean(text[:_MAX_MESSAGE_CHARS])


def _clean(text: str) -> str:
    """Lone surrogates have no UTF-8."""
    return text.encode("utf-8", "replace").decode()
