"""The pages of MiniWoB: where they lie and how they get there.

``python -m raygym.runtimes.wob.miniwob`` installs them once, through pip, in a folder of their
own: the package's Python code is not used, and what it requires is not wanted beside raygym.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from raygym.errors import MissingDependency, RaygymError
from raygym.runtimes.cache import cached

PACKAGE = "miniwob"
VERSION = "1.1.0"
SHA256 = "297006e84219d56ad037e843527ed773a4a82509dc43b6031ec4a3ad3e3e61d9"
"""Of the wheel of this version, as the package index states it; another one is refused."""
FOLDER_VARIABLE = "RAYGYM_MINIWOB"
"""Names the folder that ``pip install --target`` was given, instead of the one in the cache."""
COMMAND = "python -m raygym.runtimes.wob.miniwob"

_TIMEOUT_S = 300.0
_PAGES = Path("miniwob", "html")
_ENTRY = _PAGES / "core" / "core.js"


def _installed_at() -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else cached(f"{PACKAGE}-{VERSION}")


def pages_dir() -> Path:
    """Returns the folder that holds ``core`` and ``miniwob`` with the pages.

    Raises:
        MissingDependency: It was not installed; the message names the command.
    """
    folder = _installed_at()
    if not (folder / _ENTRY).is_file():
        raise MissingDependency(
            f"{PACKAGE} {VERSION}, the pages of the wob runtime, is not in {folder}; run "
            f"`{COMMAND}`, or let {FOLDER_VARIABLE} name the folder that holds {_ENTRY}"
        )
    return folder / _PAGES


def install() -> Path:
    """Installs the package unless it is there; returns its folder.

    Several processes may do so at once: each installs for itself and one of them wins.

    Raises:
        MissingDependency: pip is absent, or could not bring the package.
    """
    folder = _installed_at()
    if (folder / _ENTRY).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-", dir=folder.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        _pip("install", "--target", str(unpacked), "--requirement", str(wanted))
        try:
            unpacked.rename(folder)
        except OSError:
            if not (folder / _ENTRY).is_file():
                raise
    return folder


def _pip(*arguments: str) -> None:
    options = ("--no-deps", "--no-compile", "--only-binary=:all:", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", *arguments, *options]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(
            f"`{' '.join(command)}` did not end within {_TIMEOUT_S:g} s; is the index reachable?"
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip()[-800:]
        raise MissingDependency(
            f"`{' '.join(command)}` failed with exit code {error.returncode}: {said}\n"
            f"Install pip, then run `{COMMAND}`; or install {PACKAGE}=={VERSION} elsewhere with "
            f"`pip install --no-deps --target` and let {FOLDER_VARIABLE} name that folder."
        ) from error


def main() -> int:
    """Installs the pages and prints where; returns the exit status."""
    try:
        print(f"{PACKAGE} {VERSION} is in {install()}")  # noqa: T201
    except RaygymError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
