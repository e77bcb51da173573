"""Where this user's remotes and leases are kept on this machine."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from raygym.errors import ConfigError

VARIABLE = "RAYGYM_STATE"
"""Names the directory, where the usual one is not wanted."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  what is made in it is private


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns this user's state directory on this machine, which it makes if need be.

    It is ``$RAYGYM_STATE``, else ``$XDG_RUNTIME_DIR/raygym``, else
    ``/dev/shm/raygym-<uid>``, else ``<temporary directory>/raygym-<uid>``: the first of the
    last three that can be used. It has mode 0700. The same for all processes of a user, it
    outlives them, and mostly not the machine's next start.

    Args:
        environ: Variables.

    Raises:
        ConfigError: It cannot be made, or belongs to another user.
    """
    given = environ.get(VARIABLE)
    if given:
        directory = Path(given).absolute()
        problem = _problem_of(directory)
        if problem is None:
            return directory
        raise ConfigError(f"{VARIABLE}: {directory} {problem}; name another directory")
    problems: list[str] = []
    for directory in _usual(environ):
        problem = _problem_of(directory)
        if problem is None:
            return directory
        problems.append(f"{directory} {problem}")
    raise ConfigError(
        f"no directory for remotes and leases: {'; '.join(problems)}. Name one with {VARIABLE}"
    )


def remotes_directory(state: Path) -> Path:
    """Returns where each remote has a directory of its own, made if need be."""
    directory = state / "remotes"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _usual(environ: Mapping[str, str]) -> Iterator[Path]:
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        yield Path(runtime).absolute() / "raygym"
    name = f"raygym-{os.getuid()}"
    if _SHARED_MEMORY.is_dir():
        yield _SHARED_MEMORY / name
    yield Path(tempfile.gettempdir()).absolute() / name


def _problem_of(directory: Path) -> str | None:
    """Makes a directory or makes one private; returns what is wrong with it, None if nothing."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return "is no directory"
        if status.st_uid != os.getuid():
            return "belongs to another user"
        directory.chmod(stat.S_IRWXU)
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    return None
