"""The one class that makes a program a runtime: how to start it, and what its output means."""

import sys
from collections.abc import Sequence
from pathlib import Path

from raygym.runtimes.x_program import XProgram

GAME = Path(__file__).with_name("wall.py")


class WallTask(XProgram):
    """Plays ``wall.py``, which prints ``ready``, ``hit`` and ``over``."""

    def command(self, env_id: str, seed: int) -> Sequence[str]:
        """Returns what runs for one episode."""
        return [sys.executable, "-u", str(GAME), str(seed)]

    def on_line(self, line: str) -> None:
        """Takes what the game printed."""
        if line == "hit":
            self.reward(1.0)
        elif line == "over":
            self.done(-1.0)
