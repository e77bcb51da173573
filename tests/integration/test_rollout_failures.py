"""What dies in the middle of rollouts costs its own slots an episode, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from raygym.core import OUTCOMES, Outcome
from raygym.service.actor_answers import SlotsFactory
from raygym.service.detached import NAMESPACE
from raygym.service.ray_registry import NAME
from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorLost
from raygym.service.rollout_service import RolloutService
from raygym.vector.supervision import Supervision
from tests.support.directory_store import DirectoryStore
from tests.support.leased_ledger import LeasedLedgerSlots
from tests.support.ledger_env import AnsweringPolicy, Ledger, LedgerSlots, play_until
from tests.support.process_tree import all_end
from tests.support.ray_holder import is_running, kill_9

pytestmark = pytest.mark.timeout(600)

SLOTS, SLOTS_PER_ACTOR = 4, 2
WITHIN_S = 120.0
LEASE_S = 60.0
HANGS_S = 10.0
EACH_STEPS = 60
"""Steps of each slot to see that it plays."""
LONG_EPISODE = 10**6
"""An episode that is not over when a process is killed: one killed in a reset costs none."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGYM_CLUSTER", "test-rollouts")
        with ray_running(4, has_dashboard=False):
            yield


def service_of(slots: SlotsFactory) -> RolloutService:
    return RolloutService(
        slots, SLOTS, policy=policy_of, slots_per_actor=SLOTS_PER_ACTOR, rollout_steps=10
    )


def policy_of(actor: int) -> AnsweringPolicy:
    return AnsweringPolicy()


def play(service: RolloutService, ledger: Ledger) -> None:
    """Plays until each slot has played on for some steps."""
    goals = {slot: ledger.slot_steps.get(slot, 0) + EACH_STEPS for slot in range(SLOTS)}

    def is_enough() -> bool:
        return all(ledger.slot_steps.get(slot, 0) >= goal for slot, goal in goals.items())

    play_until(service.rollouts(timeout_s=WITHIN_S), ledger, is_enough, within_s=WITHIN_S)


def play_until_replaced(service: RolloutService, ledger: Ledger, slots: set[int]) -> None:
    """Plays until each of these slots has had another environment."""
    before = {slot: ledger.instances[slot][-1] for slot in slots}

    def is_replaced() -> bool:
        return all(ledger.instances[slot][-1] != made for slot, made in before.items())

    play_until(service.rollouts(timeout_s=WITHIN_S), ledger, is_replaced, within_s=WITHIN_S)


def environments(ledger: Ledger) -> list[int]:
    """Returns how many environments each slot has had."""
    return [len(ledger.instances[slot]) for slot in range(SLOTS)]


def lost(service: RolloutService) -> set[int]:
    """Returns the slots whose actors were lost."""
    return {report.slot for report in service.reports() if isinstance(report, ActorLost)}


def test_a_killed_env_process_costs_its_slot_one_episode_and_the_others_nothing():
    ledger = Ledger()
    with service_of(LedgerSlots(has_processes=True, episode_steps=LONG_EPISODE)) as service:
        play(service, ledger)
        played = set(ledger.processes.values())
        assert len(played) == SLOTS
        os.kill(ledger.processes[1], signal.SIGKILL)
        play_until_replaced(service, ledger, {1})
        play(service, ledger)
        played |= set(ledger.processes.values())
        assert lost(service) == set()
        assert service.stats().outcomes[Outcome.ENV_FAILURE] == 1
    failed = [(slot, OUTCOMES[outcome]) for slot, _, outcome in ledger.failed]
    assert failed == [(1, Outcome.ENV_FAILURE)]
    assert environments(ledger) == [1, 2, 1, 1]
    assert all_end(played, timeout_s=60)


def test_an_env_process_that_hangs_is_cut_after_its_deadline_and_the_others_play_on():
    ledger = Ledger()
    supervision = Supervision(step_timeout_s=HANGS_S)
    with service_of(
        LedgerSlots(has_processes=True, episode_steps=LONG_EPISODE, supervision=supervision)
    ) as service:
        play(service, ledger)
        played, hanging = set(ledger.processes.values()), ledger.processes[1]
        before = dict(ledger.slot_steps)
        os.kill(hanging, signal.SIGSTOP)
        play_until_replaced(service, ledger, {1})
        for slot in (0, 2, 3):
            assert ledger.slot_steps[slot] > before[slot] + EACH_STEPS
        play(service, ledger)
    failed = [(slot, OUTCOMES[outcome]) for slot, _, outcome in ledger.failed]
    assert failed == [(1, Outcome.TIMEOUT)]
    assert environments(ledger) == [1, 2, 1, 1]
    assert all_end(played, timeout_s=60)


@pytest.mark.parametrize("has_processes", [False, True])
@pytest.mark.parametrize("way", ["ray.kill", "kill -9"])
def test_a_killed_actor_costs_its_slots_an_episode_and_the_others_nothing(
    way: str, has_processes: bool
):
    ledger = Ledger()
    with service_of(LedgerSlots(has_processes=has_processes)) as service:
        play(service, ledger)
        played = set(ledger.processes.values())
        kill_actor(service, way)
        play_until_replaced(service, ledger, {0, 1})
        play(service, ledger)
        played |= set(ledger.processes.values())
        assert lost(service) == {0, 1}
    # Nobody saw how their episodes ended: they just do not go on.
    assert ledger.failed == []
    assert environments(ledger) == [2, 2, 1, 1]
    assert all_end(played, timeout_s=60)


def kill_actor(service: RolloutService, way: str) -> None:
    """Kills the actor of slots 0 and 1."""
    actor: Any = service._crew.members[0].handle
    if way == "ray.kill":
        ray.kill(actor)
    else:
        os.kill(ray.get(actor.touch.remote(), timeout=WITHIN_S), signal.SIGKILL)


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {WITHIN_S:g} s"
        time.sleep(0.05)


def test_a_killed_registry_costs_nobody_anything_and_then_leases_are_taken_over(tmp_path: Path):
    ledger, store = Ledger(), DirectoryStore(tmp_path)
    with service_of(LeasedLedgerSlots(root=tmp_path, ttl_s=LEASE_S, keep_s=1.0)) as service:
        play(service, ledger)
        pid = kill_9(ray.get_actor(NAME, namespace=NAMESPACE))
        eventually(lambda: not is_running(pid))
        play(service, ledger)
        assert (ledger.failed, environments(ledger)) == ([], [1, 1, 1, 1])
        assert lost(service) == set()
        # Only the registry can say that these leases may be taken over.
        kill_actor(service, "kill -9")
        play_until_replaced(service, ledger, {0, 1})
        play(service, ledger)
    assert (ledger.failed, environments(ledger)) == ([], [2, 2, 1, 1])
    assert [len(ledger.leases[slot]) for slot in range(SLOTS)] == [2, 2, 1, 1]
    for slot in (0, 1):
        (before, first), (after, second) = (one.rsplit(":", 1) for one in ledger.leases[slot])
        assert before == after
        assert int(first) < int(second)
    assert len(store.made()) == SLOTS
    eventually(lambda: store.running() == [])
