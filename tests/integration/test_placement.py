from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from raygym.service.placement import (
    Placement,
    actor_options,
    has_waiting_slots,
    learner_options,
    look,
    waiting,
)
from tests.support.small_ray import small_ray


class Player:
    """Has environments, as far as Ray can tell."""

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


@pytest.fixture(scope="module")
def three_slots() -> Iterator[None]:
    with small_ray(resources={"env_slots": 3}):
        yield


def spawn(slots: int) -> Any:
    return ray.remote(Player).options(num_cpus=0.25, **actor_options(slots)).remote()


def becomes(*, running: int, waits: int) -> Placement:
    deadline_s = time.monotonic() + 30
    while ((seen := look()).running, seen.waiting) != (running, waits):
        assert time.monotonic() < deadline_s, waiting(seen)
        time.sleep(0.05)
    return seen


def test_slots_are_taken_and_given_back_and_those_without_a_place_say_what_they_wait_for(
    three_slots,
):
    players = [spawn(2), spawn(1)]
    ray.get([player.node.remote() for player in players], timeout=60)
    players += [spawn(1), spawn(2)]
    full = becomes(running=3, waits=3)
    assert waiting(full) == "3 of 3 slots run, 3 wait for env_slots (3 of 3 taken)"
    assert has_waiting_slots()
    ray.kill(players.pop(1))
    becomes(running=3, waits=2)
    for player in players:
        ray.kill(player)
    becomes(running=0, waits=0)
    assert not has_waiting_slots()


def test_weights_are_kept_on_the_node_of_the_run(three_slots):
    keeper = ray.remote(Player).options(num_cpus=0.25, **learner_options()).remote()
    here = ray.get_runtime_context().get_node_id()
    assert ray.get(keeper.node.remote(), timeout=60) == here
