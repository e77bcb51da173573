"""A driver program that plays rollouts over all nodes, for tests that take one off the network.

Told a Ray address and a directory, it writes there what it sees, a line at a time, until told to
stop; it ends with an error where the books of what it played do not balance.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray

from raygym.service.reports import ActorLost
from raygym.service.rollout_service import RolloutService
from tests.support.ledger_env import AnsweringPolicy, Ledger, LedgerSlots, this_node

TOLD_FILE = "told.jsonl"
STOP_FILE = "stop"
SLOTS, SLOTS_PER_ACTOR = 4, 2
ORPHAN_S = 12.0
"""After so long an actor that hears nothing ends."""

_TOLD_EVERY_S = 0.2


def main() -> None:
    """Plays until told to stop."""
    address, directory = sys.argv[1], Path(sys.argv[2])
    ray.init(address=address, log_to_driver=False)
    while sum(node["Alive"] for node in ray.nodes()) < 2:
        time.sleep(0.1)
    ledger, lost, told_s = Ledger(), set[int](), 0.0
    with (
        (directory / TOLD_FILE).open("a", buffering=1) as told,
        RolloutService(
            LedgerSlots(has_processes=True),
            SLOTS,
            policy=policy_of,
            slots_per_actor=SLOTS_PER_ACTOR,
            rollout_steps=10,
            orphan_timeout_s=ORPHAN_S,
        ) as service,
    ):
        for rollout in service.rollouts():
            ledger.note(rollout)
            lost |= {one.slot for one in service.reports() if isinstance(one, ActorLost)}
            is_over = (directory / STOP_FILE).exists()
            if is_over or time.monotonic() - told_s > _TOLD_EVERY_S:
                told_s = time.monotonic()
                told.write(json.dumps(_seen(ledger, lost)) + "\n")
            if is_over:
                break
    ray.shutdown()


def policy_of(actor: int) -> AnsweringPolicy:
    """Makes the policy of an actor."""
    return AnsweringPolicy()


def _seen(ledger: Ledger, lost: set[int]) -> dict[str, Any]:
    slots = range(SLOTS)
    return {
        "head": this_node(),
        "nodes": [ledger.nodes.get(slot) for slot in slots],
        "processes": [ledger.processes.get(slot) for slot in slots],
        "environments": [len(ledger.instances.get(slot, ())) for slot in slots],
        "steps": [ledger.slot_steps.get(slot, 0) for slot in slots],
        "failed": ledger.failed,
        "lost": sorted(lost),
    }


if __name__ == "__main__":
    main()
