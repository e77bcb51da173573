"""Rollouts over several nodes, in an interpreter of their own, as in ``test_ray_nodes``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "isolated" / "rollout_nodes.py"


@pytest.mark.alone
@pytest.mark.timeout(420)
def test_rollouts_go_on_where_a_node_dies():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "timeout=380", str(SUITE)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout, done.stdout
