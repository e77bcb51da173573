"""Programs of other people, each in a virtual environment of its own; see ``scripts/peers``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def make_peers() -> None:
    """Makes their environments where they are not there."""
    subprocess.run([ROOT / "scripts" / "peers"], check=True, timeout=900)


def run_peer(venv: str, script: str, *arguments: str, timeout_s: float = 120.0) -> list[Any]:
    """Runs a script in a peer's environment; returns what its lines say in JSON."""
    process = subprocess.run(
        [ROOT / ".peers" / venv / "bin" / "python", ROOT / "tests/peers" / script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return [json.loads(line) for line in process.stdout.splitlines()]
