"""The ledger's environment on leased Remotes that are directories."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.core import Backend, Outcome, Remote
from raygym.service.leased import leased_backend_on_ray
from raygym.vector.inline_slots import InlineSlots
from tests.support.directory_store import DirectoryStore
from tests.support.ledger_env import LedgerEnv


class LeasedLedgerEnv(LedgerEnv):
    """Plays as long as its lease holds; then its step is cut, and a reset asks for another.

    Args:
        backend: Of the leases.
        client_id: On whose behalf.
        step_s: How long a step takes.
    """

    def __init__(self, backend: Backend, client_id: str, *, step_s: float) -> None:
        super().__init__(step_s=step_s)
        self._backend = backend
        self._client_id = client_id
        self._remote: Remote | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        if self._remote is None or not self._backend.holds(self._remote.id):
            self._remote = self._backend.start("flashgames", client_id=self._client_id)
        lease_id = self._backend.lease_id(self._remote.id)
        observation, _ = super().reset(seed=seed)
        return observation, {"remote_id": self._remote.id, "lease_id": lease_id}

    def step(self, action: int) -> tuple[npt.NDArray[np.int64], float, bool, bool, dict[str, Any]]:
        assert self._remote is not None
        if not self._backend.holds(self._remote.id):
            info = {"outcome": str(Outcome.PREEMPTED), "reason": "its lease was lost"}
            return self._observation(), 0.0, False, True, info
        return super().step(action)

    def close(self) -> None:
        if self._remote is not None:
            self._backend.release(self._remote.id)


@dataclass(frozen=True, kw_only=True)
class LeasedLedgerSlots:
    """Makes the slots of an actor, each with a Remote of its own; it pickles."""

    root: Path
    """Where the containers are."""
    ttl_s: float
    keep_s: float
    step_s: float = 0.002

    def __call__(self, first_slot: int, num_slots: int) -> InlineSlots:
        """Makes ``num_slots`` of them."""
        store = functools.partial(DirectoryStore, self.root)
        backend = leased_backend_on_ray(store, ttl_s=self.ttl_s, keep_s=self.keep_s)

        def make(slot: int) -> LeasedLedgerEnv:
            return LeasedLedgerEnv(backend, f"slot-{first_slot + slot}", step_s=self.step_s)

        return InlineSlots(make, num_slots, close_also=backend.close)
