"""The container engine as ``raygym images`` needs it: a client, and errors with a remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raygym.errors import MissingDependency, RaygymError

if TYPE_CHECKING:
    from docker.client import DockerClient

_DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_TIMEOUT_S = 900
"""A build says nothing while it writes a large layer."""
_LOG_LINES = 40


class BuildFailed(RaygymError):
    """A step of an image's build failed; the message ends with the build's log."""


class PullFailed(RaygymError):
    """A published image could not be fetched."""


def connect() -> DockerClient:
    """Returns a client of the engine in DOCKER_HOST, or of this machine's; close it.

    Raises:
        NoEngine: Nothing answers there.
        EnginePermission: This user may not use its socket.
        MissingDependency: The docker SDK is absent.
    """
    try:
        from docker.client import DockerClient
    except ImportError as error:
        raise MissingDependency(
            "the Python package docker is absent; install it with `pip install 'raygym[docker]'`"
        ) from error
    with translated("connecting"):
        return DockerClient.from_env(timeout=_TIMEOUT_S)


@contextmanager
def translated(doing: str, *, log: list[str] | None = None) -> Iterator[None]:
    """Turns what the docker SDK raises into errors of ours.

    Args:
        doing: What is done, on what.
        log: What was said so far, for the message; may grow meanwhile.

    Raises:
        NoEngine: The engine is gone.
        DiskFull: It says that its disk is full.
        EngineFailed: It says something else, or does not answer in time.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise _engine_error(error, doing, log) from error


def refusal(
    kind: type[RaygymError], doing: str, said: str, log: list[str] | None = None
) -> RaygymError:
    """Returns the error for what an engine said in a stream: DiskFull if it means that.

    Args:
        kind: What it is otherwise.
        doing: What was done, on what.
        said: The engine's own words.
        log: What it said before; its end becomes part of the message.
    """
    from docker.errors import DockerException

    from raygym.remote_env.docker.errors import DiskFull

    # Where a program filled the disk, only the log says so, and in its last lines.
    found = _engine_error(DockerException(f"{said}\n{_tail(log)}"), doing, None)
    if isinstance(found, DiskFull):
        return found
    return kind(_with_log(f"{doing}: {said.strip()}", log))


def _engine_error(error: Exception, doing: str, log: list[str] | None) -> RaygymError:
    from raygym.remote_env.docker.errors import engine_error

    where = os.environ.get("DOCKER_HOST") or _DEFAULT_SOCKET
    found = engine_error(error, engine=where, doing=doing)
    return type(found)(_with_log(found.message, log), **found.fields)


def _with_log(message: str, log: list[str] | None) -> str:
    tail = _tail(log)
    return f"{message}\nThe log ends:\n{tail}" if tail else message


def _tail(log: list[str] | None) -> str:
    return "\n".join("".join(log or ()).splitlines()[-_LOG_LINES:])
