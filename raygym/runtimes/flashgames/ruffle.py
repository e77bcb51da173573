"""Ruffle, the Flash player: where it lies and how it gets there.

``python -m raygym.runtimes.flashgames.ruffle`` installs it once, through npm.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

from raygym.errors import MissingDependency
from raygym.runtimes.cache import CACHE_VARIABLE as CACHE_VARIABLE
from raygym.runtimes.cache import cached, install_once, tell_installed
from raygym.runtimes.npm import check, download

PACKAGE = "@ruffle-rs/ruffle"
VERSION = "0.6.0"
INTEGRITY = (
    "sha512-P2X1zDENBoiLt2ZjPcsUzaDxoR7fVF2e1U/bi7hbIAQ"
    "EjkykxljSoG8AgbywHvlVVzL9Y5tIZMRqDwIm31jgPA=="
)
"""As the npm registry states it for this version; a package that differs is refused."""
SCRIPTS = "'wasm-unsafe-eval' 'unsafe-eval'"
"""What a page with it must allow: it looks up the functions of its page with eval."""
COMMAND = "python -m raygym.runtimes.flashgames.ruffle"

_ENTRY = "ruffle.js"


def _installed_at() -> Path:
    return cached(f"ruffle-{VERSION}")


def ruffle_dir() -> Path:
    """Returns the folder that holds ``ruffle.js``.

    Raises:
        MissingDependency: It was not installed; the message names the command.
    """
    folder = _installed_at()
    if not (folder / _ENTRY).is_file():
        raise MissingDependency(
            f"Ruffle {VERSION}, the Flash player, is not in {folder}; run `{COMMAND}`"
        )
    return folder


def install() -> Path:
    """Installs Ruffle unless it is there; returns its folder.

    Raises:
        MissingDependency: npm is absent, or could not bring the package.
        RaygymError: The package is not the one that was asked for.
    """
    return install_once(_installed_at(), Path(_ENTRY), _fill)


def _fill(scratch: Path, unpacked: Path) -> None:
    package = download(f"{PACKAGE}@{VERSION}", title="Ruffle", command=COMMAND, folder=scratch)
    check(package, INTEGRITY)
    unpack(package, unpacked)


def unpack(package: Path, folder: Path) -> None:
    """Unpacks the plain files of an npm package, but for its source maps, into ``folder``."""
    folder.mkdir()
    with tarfile.open(package) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and not name.endswith(".map"):
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


def main() -> int:
    """Installs Ruffle and prints where; returns the exit status."""
    return tell_installed(f"Ruffle {VERSION}", install)


if __name__ == "__main__":
    sys.exit(main())
