"""Has the C library keep the memory that a learner needs again and again."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

# mallopt(3): what malloc.h calls these.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 32 * 2**20),
    (_M_TRIM_THRESHOLD, 512 * 2**20),
    (_M_TOP_PAD, 64 * 2**20),
)


def keep_freed_memory() -> bool:
    """Keeps freed blocks of some megabytes in this process instead of giving them back.

    A minibatch takes and frees a dozen of them. Each that comes fresh from the kernel is zeroed
    page by page first, which takes as long as the arithmetic.

    Returns:
        Whether the C library can be told so; glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError) as error:
        log.debug("memory.not_kept cause=%s", error)
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS)
