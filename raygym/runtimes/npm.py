"""Packages that come through npm, each of one version and one content."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

from raygym.errors import MissingDependency, RaygymError
from raygym.runtimes.cache import fetch


def download(package: str, *, title: str, command: str, folder: Path) -> Path:
    """Brings a package's archive; returns where it lies.

    Args:
        package: Name and version, ``name@1.2.3``.
        title: What it is called in messages.
        command: What installs it; a message says to run it again.
        folder: Where the archive goes.

    Raises:
        MissingDependency: npm is absent, or could not bring the package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependency(
            f"npm: no such program on the PATH, and {title} comes through it. Install it, on "
            f"Debian with `apt-get install --no-install-recommends npm`, then run `{command}`"
        )
    packing = [npm, "pack", package, "--json", "--silent"]
    said = fetch(packing, source="registry", folder=folder)
    try:
        return folder / Path(str(json.loads(said)[0]["filename"])).name
    except (ValueError, LookupError, TypeError) as error:
        raise MissingDependency(f"`{' '.join(packing)}` did not name the file it made") from error


def check(archive: Path, integrity: str) -> None:
    """Raises RaygymError unless the file's SHA-512 is the one in ``integrity``."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        raise RaygymError(
            f"{archive.name}: expected integrity {integrity}, got {found}; nothing was installed"
        )
