"""Where programs lie that raygym fetches once for all its remotes."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "RAYGYM_CACHE"


def cached(name: str) -> Path:
    """Returns the path of that name in the cache, whether something is there or not."""
    cache = os.environ.get(CACHE_VARIABLE)
    return Path(cache or Path.home() / ".cache" / "raygym") / name
