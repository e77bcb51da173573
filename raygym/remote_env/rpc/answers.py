"""Errors of the far end as exceptions of this one."""

from __future__ import annotations

from typing import Any

from raygym.core import Outcome
from raygym.errors import (
    ConfigError,
    HandshakeRefused,
    LocalProtocolError,
    RaygymError,
    RemoteEnvError,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import value_from_message

_KINDS: dict[int, type[RaygymError]] = {
    pb.Error.INVALID_ARGUMENT: ConfigError,
    pb.Error.NOT_FOUND: ConfigError,
    pb.Error.UNIMPLEMENTED: ConfigError,
    pb.Error.FAILED_PRECONDITION: LocalProtocolError,
    pb.Error.RESOURCE_EXHAUSTED: ConfigError,
    pb.Error.DEADLINE_EXCEEDED: StepTimeout,
    pb.Error.UNAVAILABLE: SessionLost,
    pb.Error.UNAUTHENTICATED: HandshakeRefused,
}


def exception_of(error: pb.Error, name: str) -> RaygymError:
    """Returns what an Error of the far end is here.

    Args:
        error: What came.
        name: Of the peer.
    """
    kind = RemoteEnvError if error.type else _KINDS.get(error.code, RemoteEnvError)
    if error.is_passing:
        kind = RemoteUnreachable
    said = f"{error.type}: {error.message}" if error.type else error.message
    text = f"{name}: {said or 'it gives no reason'}"
    if kind is RemoteEnvError:
        return RemoteEnvError(text, type=error.type, remote_traceback=error.traceback)
    return kind(text, code=error.code)


def reason_of(failure: pb.Failure) -> str:
    """Returns in one line why an environment broke."""
    error = failure.error
    return f"{error.type}: {error.message}" if error.type else error.message


def exception_of_failure(failure: pb.Failure, name: str) -> RaygymError:
    """Returns what the loss of an environment is here.

    It is a StepTimeout where it did not answer in time, else a RemoteEnvError.
    """
    error = failure.error
    text = f"{name}: environment {failure.env} broke: {reason_of(failure)}"
    fields = {"env": failure.env, "outcome": failure.outcome}
    if failure.outcome == "timeout":
        return StepTimeout(text, **fields)
    return RemoteEnvError(text, type=error.type, remote_traceback=error.traceback, **fields)


def info_of(value: pb.Value) -> dict[str, Any]:
    """Returns the info of one environment.

    Raises:
        RemoteProtocolError: It is no map.
    """
    info = value_from_message(value)
    if not isinstance(info, dict):
        raise RemoteProtocolError(f"an info came that is no map but a {type(info).__name__}")
    return info


def outcome_of(error: RaygymError) -> str:
    """Returns the outcome of a step that a lost conversation cut."""
    return str(Outcome.TIMEOUT if isinstance(error, StepTimeout) else Outcome.INFRA_FAILURE)


def check_arguments(failures: str, render_mode: str | None) -> None:
    """Raises ConfigError unless both are what a client knows."""
    if failures not in ("raise", "truncate"):
        raise ConfigError(f"failures: expected raise or truncate, got {failures!r}")
    if render_mode not in (None, "rgb_array"):
        raise ConfigError(
            f"render_mode: expected None or rgb_array, got {render_mode!r}; a remote sends pictures"
        )


def our_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns an environment's metadata with no render modes but those that can be had here."""
    theirs = metadata.get("render_modes") or []
    return {**metadata, "render_modes": [mode for mode in theirs if mode == "rgb_array"]}
