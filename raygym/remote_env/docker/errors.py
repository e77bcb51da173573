"""What goes wrong with an engine and its containers, each with its remedy.

::

    MissingDependency
    ├── NoEngine             nothing answers where the engine should be
    ├── EnginePermission     the engine's socket may not be opened
    └── MissingImage         the engine has no such image
    RemoteFailedToStart
    ├── OutOfMemory          the container wanted more than its limit
    ├── ContainerDied        it ended by itself; has ``exit_code``
    ├── CrashLoop            several in a row ended; no more are tried for a while
    ├── DiskFull             the engine's disk, or the directory of remotes, is full
    └── PortTaken            a port to publish belongs to somebody else
    RemoteError
    └── EngineFailed         the engine answered with an error, or not in time

Those about a container have ``remote_id`` and ``log``, the end of its log.
"""

from __future__ import annotations

import errno

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, Timeout

from raygym.errors import MissingDependency, RaygymError, RemoteError, RemoteFailedToStart

EXIT_KILLED = 137
"""Exit code of what SIGKILL ended: 128 + 9."""

_DISK_FULL = ("no space left on device", "disk quota exceeded")
_PORT_TAKEN = ("port is already allocated", "address already in use")
_CRASHES = {
    0: "it ended by itself, as when it is told to stop or its lease ran out",
    2: "it refused its arguments",
    3: "its screen was lost",
    4: "its environment could not be started",
    125: "the engine could not run it",
    126: "its program cannot be run",
    127: "its program is not in the image",
    EXIT_KILLED: "it was killed",
    139: "it crashed (SIGSEGV)",
    143: "it was told to stop (SIGTERM)",
}


class NoEngine(MissingDependency):
    """Nothing answers where the engine should be."""


class EnginePermission(MissingDependency):
    """This user may not open the engine's socket."""


class MissingImage(MissingDependency):
    """The engine has no such image; has ``image``."""


class OutOfMemory(RemoteFailedToStart):
    """The container wanted more memory than its limit."""


class ContainerDied(RemoteFailedToStart):
    """The container ended by itself; has ``exit_code``."""


class CrashLoop(RemoteFailedToStart):
    """Several containers in a row ended right after their start."""


class DiskFull(RemoteFailedToStart):
    """The engine's disk, or the file system of the remotes' directories, is full."""


class PortTaken(RemoteFailedToStart):
    """A port that was to be published belongs to somebody else."""


class EngineFailed(RemoteError):
    """The engine answered with an error, or did not answer in time."""


def engine_error(error: Exception, *, engine: str, doing: str) -> RaygymError:
    """Returns what an error of the SDK means.

    Args:
        error: What the SDK raised, or the system.
        engine: Where the engine is: ``unix:///var/run/docker.sock``.
        doing: What was asked of it: ``creating raygym-r-7f2a91``.
    """
    if isinstance(error, RaygymError):
        return error
    text = _said(error)
    lowered = text.lower()
    if any(full in lowered for full in _DISK_FULL) or _errno(error) == errno.ENOSPC:
        return DiskFull(
            f"{doing}: the disk is full, says the engine at {engine}: {text}. Free some space: "
            "`docker system df` shows what the engine uses, `docker image prune` and `docker "
            "builder prune` remove what nothing uses"
        )
    if any(taken in lowered for taken in _PORT_TAKEN):
        return PortTaken(
            f"{doing}: a port is taken, says the engine at {engine}: {text}. Free it, or try "
            "again: raygym lets the engine choose its ports"
        )
    if "bind source path does not exist" in lowered:
        return EngineFailed(
            f"{doing}: the engine at {engine} does not see a directory of this machine: {text}. "
            "Is it on another machine, or in a virtual one? Then say publish_ports=True"
        )
    if isinstance(error, ImageNotFound):
        return MissingImage(f"{doing}: the engine at {engine} lacks the image: {text}")
    if _errno(error) in (errno.EACCES, errno.EPERM) or "permission denied" in lowered:
        return EnginePermission(
            f"{doing}: this user may not open the engine's socket {engine}. Add the user to its "
            "group (`sudo usermod -aG docker $USER`, then log in anew; who is in it is as good as "
            "root), or take backend='process'"
        )
    if isinstance(error, Timeout) or "timed out" in lowered:
        return EngineFailed(
            f"{doing}: the engine at {engine} did not answer in time. Does `docker ps` answer? "
            "If not, start the engine anew (`sudo systemctl restart docker`)"
        )
    if isinstance(error, RequestsConnectionError) or _is_connecting(error):
        return NoEngine(
            f"{doing}: no Docker engine answers at {engine}: {text}. Start one (`sudo systemctl "
            "start docker`), say where it is with DOCKER_HOST, or take backend='process'"
        )
    return EngineFailed(f"{doing}: the engine at {engine} failed: {text}")


def missing_image(image: str, runtime: str, *, engine: str) -> MissingImage:
    """Returns the error of an image that must be built or pulled first."""
    return MissingImage(
        f"the engine at {engine} has no image {image}, which {runtime} runs in. Get it with "
        f"`raygym images build {runtime}` or `raygym images pull {runtime}`, or take "
        "backend='process'",
        image=image,
    )


def container_death(
    remote_id: str,
    runtime: str,
    *,
    exit_code: int | None,
    is_out_of_memory: bool,
    memory_mib: int,
    log: str,
) -> OutOfMemory | ContainerDied:
    """Returns why a container ended.

    Args:
        remote_id: Name of the remote.
        runtime: Its Runtime.
        exit_code: As the engine tells; None where it does not.
        is_out_of_memory: Whether the kernel ended something in it for want of memory.
        memory_mib: Its limit.
        log: The end of its log.
    """
    ending = f"\nIts log ends:\n{log or '(empty)'}"
    if is_out_of_memory:
        return OutOfMemory(
            f"{remote_id} ({runtime}) ran out of memory: its container may have {memory_mib} MiB. "
            "Give its Runtime more (`memory_mib` in the catalog), or let one environment at a "
            f"time run in it.{ending}",
            remote_id=remote_id,
            exit_code=exit_code,
            log=log,
        )
    meaning = "" if exit_code is None else f": {_CRASHES.get(exit_code, _signal(exit_code))}"
    code = "" if exit_code is None else f" with exit code {exit_code}"
    return ContainerDied(
        f"{remote_id} ({runtime}): its container ended{code}{meaning}.{ending}",
        remote_id=remote_id,
        exit_code=exit_code,
        log=log,
    )


def crash_loop(runtime: str, *, deaths: int, wait_s: float, last: RemoteFailedToStart) -> CrashLoop:
    """Returns the error of a Runtime whose containers end one after the other."""
    return CrashLoop(
        f"the last {deaths} containers of {runtime} ended before they listened; none is started "
        f"for another {wait_s:.0f} s. Mend what ended them, or make a new image (`raygym images "
        f"build {runtime}`). The last one: {last}",
        runtime=runtime,
        deaths=deaths,
        remote_id=last.fields.get("remote_id"),
        log=last.fields.get("log", ""),
    )


def is_gone(error: Exception) -> bool:
    """Whether the engine knows no such container, or is removing it right now."""
    if isinstance(error, NotFound) and not isinstance(error, ImageNotFound):
        return True
    return isinstance(error, APIError) and "already in progress" in _said(error)


def _signal(exit_code: int) -> str:
    return f"signal {exit_code - 128} ended it" if 128 < exit_code < 165 else "see its log"


def _said(error: Exception) -> str:
    if isinstance(error, APIError) and error.explanation:
        return str(error.explanation).strip()
    return str(error).strip()


def _errno(error: BaseException | None) -> int | None:
    """Returns the system's error number in a chain of errors, if there is one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and isinstance(error.errno, int):
            return error.errno
        inner = next((a for a in error.args if isinstance(a, BaseException)), None)
        reason = getattr(inner, "reason", None)
        if isinstance(inner, BaseException):
            found = _errno(inner)
            if found is not None:
                return found
        if isinstance(reason, BaseException):
            return _errno(reason)
        error = error.__cause__ or error.__context__
    return None


def _is_connecting(error: Exception) -> bool:
    # The SDK wraps what it meets while it asks for the engine's version.
    return isinstance(error, DockerException | RequestException) and not isinstance(error, APIError)
