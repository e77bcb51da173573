"""Where programs lie that raygym fetches once for all its remotes, and how they get there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from raygym.errors import MissingDependency, RaygymError

CACHE_VARIABLE = "RAYGYM_CACHE"

_TIMEOUT_S = 300.0


def cached(name: str) -> Path:
    """Returns the path of that name in the cache, whether something is there or not."""
    cache = os.environ.get(CACHE_VARIABLE)
    return Path(cache or Path.home() / ".cache" / "raygym") / name


def install_once(folder: Path, entry: Path, fill: Callable[[Path, Path], None]) -> Path:
    """Fills a folder unless it is there; returns it.

    Several processes may do so at once: each fills one for itself and one of them wins.

    Args:
        folder: Where it is wanted.
        entry: What is in it, relative to it, once it is filled.
        fill: Fills its second argument, a folder to be made; the first is for scratch.
    """
    if (folder / entry).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        fill(Path(scratch), unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not (folder / entry).is_file():
                raise
    return folder


def fetch(
    command: Sequence[str], *, source: str, hint: str = "", folder: Path | None = None
) -> str:
    """Runs a program that fetches a package; returns what it printed.

    Args:
        command: The program and its arguments.
        source: What it fetches from, for the message.
        hint: What else to do where it fails.
        folder: Where it runs; None runs it here.

    Raises:
        MissingDependency: It failed, or took too long; ends with its own words, and the hint.
    """
    try:
        return subprocess.run(
            list(command),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(
            f"`{' '.join(command)}` did not end within {_TIMEOUT_S:g} s; is the {source} reachable?"
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip()[-800:]
        raise MissingDependency(
            f"`{' '.join(command)}` failed with exit code {error.returncode}: {said}{hint}"
        ) from error


def tell_installed(name: str, install: Callable[[], Path]) -> int:
    """Installs something and prints where, or what was wrong; returns the exit status."""
    try:
        print(f"{name} is in {install()}")  # noqa: T201
    except RaygymError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
