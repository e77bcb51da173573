"""A program that is a small Ray, for tests that kill it: writes down where, and waits."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import ray

ADDRESS_FILE = "address"

_OBJECT_STORE_BYTES = 100 * 2**20


def main() -> None:
    """Starts Ray in the directory that is named, and stays until its input ends."""
    directory = Path(sys.argv[1])
    context = ray.init(
        num_cpus=2,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        _temp_dir=str(directory / "ray"),
    )
    part = directory / f"{ADDRESS_FILE}.part"
    part.write_text(context.address_info["gcs_address"])
    part.replace(directory / ADDRESS_FILE)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
