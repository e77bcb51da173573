"""noVNC, the VNC viewer in a page: where it lies and how it gets there.

``python -m raygym.wall.novnc`` installs it once, through npm.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path

from raygym.errors import MissingDependency
from raygym.runtimes.cache import cached, fetch, install_once, tell_installed
from raygym.runtimes.flashgames.ruffle import check

PACKAGE, VERSION = "@novnc/novnc", "1.7.0"
INTEGRITY = (
    "sha512-ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG"
    "+70ZGx21sElNFouK13RzyA=="
)
"""As the npm registry states it for this version; a package that differs is refused."""
COMMAND = "python -m raygym.wall.novnc"

_ENTRY = Path("core") / "rfb.js"


def folder() -> Path:
    """Returns where noVNC is installed, or would be."""
    return cached(f"novnc-{VERSION}")


def is_there() -> bool:
    """Returns whether noVNC is installed."""
    return (folder() / _ENTRY).is_file()


def install() -> Path:
    """Installs noVNC unless it is there; returns its folder.

    Raises:
        MissingDependency: npm is absent, or could not bring the package.
        RaygymError: The package is not the one that was asked for.
    """
    return install_once(folder(), _ENTRY, _fill)


def _fill(scratch: Path, unpacked: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependency(
            "npm: no such program on the PATH, and noVNC comes through it. Install it, on "
            f"Debian with `apt-get install --no-install-recommends npm`, then run `{COMMAND}`"
        )
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--json", "--silent"]
    said = fetch(command, source="registry", folder=scratch)
    try:
        package = scratch / Path(str(json.loads(said)[0]["filename"])).name
    except (ValueError, LookupError, TypeError) as error:
        raise MissingDependency(f"`{' '.join(command)}` did not name the file it made") from error
    check(package, INTEGRITY)
    with tarfile.open(package) as archive:
        archive.extractall(scratch, filter="data")
    (scratch / "package").rename(unpacked)


def main() -> int:
    """Installs noVNC and prints where; returns the exit status."""
    return tell_installed(f"noVNC {VERSION}", install)


if __name__ == "__main__":
    sys.exit(main())
