"""noVNC, the VNC viewer in a page: where it lies and how it gets there.

``python -m raygym.wall.novnc`` installs it once, through npm.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

from raygym.runtimes.cache import cached, install_once, tell_installed
from raygym.runtimes.npm import check, download

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
    package = download(f"{PACKAGE}@{VERSION}", title="noVNC", command=COMMAND, folder=scratch)
    check(package, INTEGRITY)
    with tarfile.open(package) as archive:
        archive.extractall(scratch, filter="data")
    (scratch / "package").rename(unpacked)


def main() -> int:
    """Installs noVNC and prints where; returns the exit status."""
    return tell_installed(f"noVNC {VERSION}", install)


if __name__ == "__main__":
    sys.exit(main())
