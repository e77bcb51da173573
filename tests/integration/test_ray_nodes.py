"""Ray clusters of several nodes, in an interpreter of their own.

What Ray's native library learned from a cluster that this process used before stays with the
process, and another cluster's raylets are then not found.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "isolated" / "ray_nodes.py"


@pytest.mark.alone
@pytest.mark.timeout(1020)
def test_leases_hold_over_several_nodes():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(SUITE)],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout, done.stdout
