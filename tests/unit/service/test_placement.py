from __future__ import annotations

import json

import pytest

from raygym.service.placement import (
    Demand,
    NodePlaces,
    Notices,
    Placement,
    actor_options,
    has_slots,
    scarce,
    table,
    waiting,
)
from tests.support.fake_store import FakeClock


def node(address="10.0.0.1", *, slots=2, running=0, cpus=4.0, cpus_used=0.0, kind="env"):
    return NodePlaces(
        node=f"id-{address}",
        address=address,
        kind=kind,
        total={"CPU": cpus, "env_slots": float(slots)} if slots else {"CPU": cpus},
        used={"CPU": cpus_used, "env_slots": float(running)},
    )


def slot(count=1, **resources: float) -> Demand:
    return Demand(resources={"CPU": 0.25, "env_slots": 1.0, **resources}, count=count)


def listed(*, alive=True, resources=(), labels=()):
    return {"Alive": alive, "Resources": dict(resources), "Labels": dict(labels)}


def test_an_actor_takes_a_slot_for_each_environment_where_nodes_have_slots():
    nodes = [listed(), listed(resources={"env_slots": 4.0})]
    assert actor_options(3, nodes) == {
        "scheduling_strategy": "SPREAD",
        "resources": {"env_slots": 3},
    }


def test_an_actor_asks_for_slots_while_only_the_head_is_up():
    assert "resources" in actor_options(1, [listed(labels={"raygym/kind": "head"})])


def test_an_actor_asks_for_no_slots_where_no_node_counts_them():
    assert actor_options(3, [listed(resources={"CPU": 8.0})]) == {"scheduling_strategy": "SPREAD"}


def test_the_slots_of_a_dead_node_do_not_count():
    assert not has_slots([listed(alive=False, resources={"env_slots": 4.0})])


def test_a_cluster_with_room_says_that_none_waits():
    placement = Placement(nodes=[node(running=1), node("10.0.0.2")], demands=[])
    assert waiting(placement) == "1 of 4 slots run, none waits"


def test_a_full_cluster_says_how_many_run_how_many_wait_and_for_what():
    nodes = [node(running=2), node("10.0.0.2", running=2)]
    placement = Placement(nodes=nodes, demands=[slot(3)])
    assert waiting(placement) == "4 of 4 slots run, 3 wait for env_slots (4 of 4 taken)"


def test_a_cluster_with_slots_but_no_processors_names_the_processors():
    placement = Placement(nodes=[node(cpus_used=4.0)], demands=[slot()])
    assert waiting(placement) == "0 of 2 slots run, 1 waits for CPU (4 of 4 taken)"


def test_a_resource_that_no_node_has_is_said_to_be_nowhere():
    placement = Placement(nodes=[node(slots=0, kind="head")], demands=[slot(2)])
    assert waiting(placement) == "0 of 0 slots run, 2 wait for env_slots (no node has any)"


def test_slots_and_processors_on_different_nodes_are_no_place():
    nodes = [node(slots=2, cpus=1.0, cpus_used=1.0), node("10.0.0.2", slots=2, running=2)]
    assert scarce({"CPU": 1.0, "env_slots": 1.0}, nodes) == ["CPU"]


def test_slots_that_fit_are_being_placed():
    placement = Placement(nodes=[node()], demands=[slot()])
    assert waiting(placement) == "0 of 2 slots run, 1 is being placed"


def test_an_actor_of_several_slots_counts_as_so_many():
    placement = Placement(nodes=[node(running=2)], demands=[slot(2, env_slots=4.0)])
    assert placement.waiting == 8


def test_what_asks_for_no_slot_does_not_count_as_one():
    other = Demand(resources={"CPU": 64.0}, count=5)
    placement = Placement(nodes=[node()], demands=[other])
    assert (placement.waiting, placement.lacking()) == (0, [])


def test_the_resource_that_most_slots_wait_for_comes_first():
    placement = Placement(nodes=[node(running=2)], demands=[slot(1, GPU=1.0), slot(5)])
    assert placement.lacking() == ["env_slots", "GPU"]


def test_the_table_has_a_line_for_each_node_and_one_for_the_rest():
    nodes = [node(kind="head", slots=0), node("10.0.0.22", running=2)]
    assert table(Placement(nodes=nodes, demands=[slot()])).splitlines() == [
        "node       kind  slots  running  free",
        "10.0.0.1   head      0        0     0",
        "10.0.0.22  env       2        2     0",
        "2 of 2 slots run, 1 waits for env_slots (2 of 2 taken)",
    ]


def test_programs_get_the_same_as_json():
    placement = Placement(nodes=[node(running=2)], demands=[slot()])
    read = json.loads(json.dumps(placement.as_json()))
    assert read["nodes"] == [
        {"node": "id-10.0.0.1", "address": "10.0.0.1", "kind": "env", "slots": 2, "running": 2}
    ]
    assert (read["running"], read["waiting"], read["lacking"]) == (2, 1, ["env_slots"])


@pytest.mark.parametrize("count", [1, 2])
def test_no_nodes_at_all_is_no_place(count):
    placement = Placement(nodes=[], demands=[slot(count)])
    assert set(placement.lacking()) == {"CPU", "env_slots"}


FULL = Placement(nodes=[node(running=2)], demands=[slot(3)])
ROOMY = Placement(nodes=[node(running=2), node("10.0.0.2", running=1)], demands=[])


class Changing:
    """Slots that are as they were said to be last."""

    def __init__(self, placement: Placement) -> None:
        self.placement: Placement | Exception = placement
        self.clock = FakeClock()
        self.notices = Notices(self.look, every_s=5.0, clock=self.clock)

    def look(self) -> Placement:
        if isinstance(self.placement, Exception):
            raise self.placement
        return self.placement

    def news(self, placement: Placement | Exception) -> str | None:
        self.placement = placement
        self.clock.pass_s(5.0)
        return self.notices.news()


def test_a_run_hears_once_that_slots_wait_and_once_that_none_does_any_more():
    slots = Changing(ROOMY)
    assert slots.news(ROOMY) is None
    assert slots.news(FULL) == "2 of 2 slots run, 3 wait for env_slots (2 of 2 taken)"
    assert slots.news(FULL) is None
    assert slots.news(ROOMY) == "3 of 4 slots run, none waits"
    assert slots.news(ROOMY) is None


def test_slots_that_are_being_placed_are_no_news():
    assert Changing(ROOMY).news(Placement(nodes=[node()], demands=[slot()])) is None


def test_a_look_at_the_slots_is_taken_every_few_seconds_only():
    slots = Changing(FULL)
    assert slots.notices.news()
    slots.placement = ROOMY
    slots.clock.pass_s(4.9)
    assert slots.notices.news() is None
    slots.clock.pass_s(0.2)
    assert slots.notices.news()


def test_ray_that_does_not_answer_is_no_news():
    slots = Changing(ROOMY)
    assert slots.news(RuntimeError("gcs is away")) is None
    assert slots.news(FULL)
