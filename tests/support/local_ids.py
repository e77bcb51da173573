"""Registers environments that tests make by an id: ``tests.support.local_ids:Id``."""

from __future__ import annotations

import gymnasium

gymnasium.register("raygym-test/Trouble-v0", entry_point="tests.support.lockstep:Trouble")
