from __future__ import annotations

import subprocess
import sys

_FAULTS = """
import resource, sys
import numpy as np
from raygym.training.learner_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**20, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults()
if not keep_freed_memory():
    print("cannot")
    sys.exit()
faults()
print("kept" if faults() < fresh / 10 else "not kept")
"""


def test_blocks_that_were_freed_do_not_come_fresh_from_the_kernel_again():
    # Told when large blocks begin, glibc does not find out by itself that they come again.
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS],
        env={"MALLOC_MMAP_THRESHOLD_": str(2**20)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() in ("kept", "cannot")
