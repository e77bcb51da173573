"""A program that is a small Ray, for tests that kill it: writes down where, and waits."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.small_ray import small_ray

ADDRESS_FILE = "address"


def main() -> None:
    """Starts Ray in the directory that is named, and stays until its input ends."""
    directory = Path(sys.argv[1])
    with small_ray(_temp_dir=str(directory / "ray")) as address:
        part = directory / f"{ADDRESS_FILE}.part"
        part.write_text(address)
        part.replace(directory / ADDRESS_FILE)
        sys.stdin.read()


if __name__ == "__main__":
    main()
