"""The pages of MiniWoB: where they lie and how they get there.

``python -m raygym.runtimes.wob.miniwob`` installs them once, through pip, in a folder of their
own: the package's Python code is not used, and what it requires is not wanted beside raygym.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from raygym.errors import MissingDependency
from raygym.runtimes.cache import cached, fetch, install_once, tell_installed

PACKAGE = "miniwob"
VERSION = "1.1.0"
SHA256 = "297006e84219d56ad037e843527ed773a4a82509dc43b6031ec4a3ad3e3e61d9"
"""Of the wheel of this version, as the package index states it; another one is refused."""
FOLDER_VARIABLE = "RAYGYM_MINIWOB"
"""Names the folder that ``pip install --target`` was given, instead of the one in the cache."""
COMMAND = "python -m raygym.runtimes.wob.miniwob"

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

    Raises:
        MissingDependency: pip is absent, or could not bring the package.
    """
    return install_once(_installed_at(), _ENTRY, _fill)


def _fill(scratch: Path, unpacked: Path) -> None:
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    options = ("--no-deps", "--no-compile", "--only-binary=:all:", "--disable-pip-version-check")
    fetch(
        [
            *(sys.executable, "-m", "pip", "install", "--target", str(unpacked)),
            *("--requirement", str(wanted), *options),
        ],
        source="index",
        hint=f"\nInstall pip, then run `{COMMAND}`; or install {PACKAGE}=={VERSION} elsewhere with "
        f"`pip install --no-deps --target` and let {FOLDER_VARIABLE} name that folder.",
    )


def main() -> int:
    """Installs the pages and prints where; returns the exit status."""
    return tell_installed(f"{PACKAGE} {VERSION}", install)


if __name__ == "__main__":
    sys.exit(main())
