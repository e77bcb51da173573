"""A node that dies in the middle of rollouts; all nodes are on this machine, each with a raylet."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from raygym.service.reports import ActorLost
from raygym.service.rollout_service import RolloutService
from tests.support.ledger_env import (
    AnsweringPolicy,
    Ledger,
    LedgerSlots,
    node_number,
    play_until,
)
from tests.support.process_tree import all_end
from tests.support.small_ray import another_node, small_cluster

SLOTS, SLOTS_PER_ACTOR = 4, 2
WITHIN_S = 120.0
EACH_STEPS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with small_cluster() as running:
        yield running


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    """A second node, which goes with the test."""
    with another_node(cluster) as node:
        yield node


def play(service: RolloutService, ledger: Ledger) -> None:
    """Plays until each slot has played on for some steps."""
    goals = {slot: ledger.slot_steps.get(slot, 0) + EACH_STEPS for slot in range(SLOTS)}

    def is_enough() -> bool:
        return all(ledger.slot_steps.get(slot, 0) >= goal for slot, goal in goals.items())

    play_until(service.rollouts(timeout_s=WITHIN_S), ledger, is_enough, within_s=WITHIN_S)


def raylet_of(node: Any) -> int:
    """Returns the process of a node's raylet."""
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def test_slots_of_a_node_that_dies_go_on_elsewhere_and_the_others_lose_nothing(second: Any):
    head = node_number(ray.get_runtime_context().get_node_id())
    far = node_number(second.node_id)
    ledger = Ledger()
    slots = LedgerSlots(has_processes=True)
    with RolloutService(
        slots, SLOTS, policy=policy_of, slots_per_actor=SLOTS_PER_ACTOR, rollout_steps=10
    ) as service:
        play(service, ledger)
        assert set(ledger.nodes.values()) == {head, far}
        moved = {slot for slot, node in ledger.nodes.items() if node == far}
        stayed = set(range(SLOTS)) - moved
        orphans = {ledger.processes[slot] for slot in moved}
        os.kill(raylet_of(second), signal.SIGKILL)
        play_until(
            service.rollouts(timeout_s=WITHIN_S),
            ledger,
            lambda: set(ledger.nodes.values()) == {head},
            within_s=WITHIN_S,
        )
        play(service, ledger)
        lost = {report.slot for report in service.reports() if isinstance(report, ActorLost)}
        played = set(ledger.processes.values())
        assert all_end(orphans, timeout_s=WITHIN_S)
    assert lost == moved
    assert ledger.failed == []
    assert {slot: len(ledger.instances[slot]) for slot in stayed} == dict.fromkeys(stayed, 1)
    assert {slot: len(ledger.instances[slot]) for slot in moved} == dict.fromkeys(moved, 2)
    assert all_end(played, timeout_s=WITHIN_S)


def policy_of(actor: int) -> AnsweringPolicy:
    return AnsweringPolicy()
