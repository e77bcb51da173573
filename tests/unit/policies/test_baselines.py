"""The players that a learner is compared with, and what the scripted drivers decide."""

from __future__ import annotations

from collections import Counter

import pytest

from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.policies.baselines import HoldPolicy, RandomPolicy, ScriptedPolicy

NEON, DUSK = "flashgames.NeonRace-v0", "flashgames.DuskDrive-v0"
ACTIONS = {env_id: load_catalog([]).games[env_id].spec.actions for env_id in (NEON, DUSK)}

FREE_ROAD = {
    **{"lane": 0.0, "speed": 0.9, "steer": 0.0, "nitro": 0.5, "ghost": 0.0},
    **{"bend": 0.0, "bend_near": 0.0, "bend_far": 0.0},
    **{"pickup_gap": 999.0, "pickup_lane": 0.0, "pickup_kind": 0.0},
    **{
        f"rival{i}_{key}": value for i in range(3) for key, value in (("gap", 999.0), ("lane", 0.0))
    },
    **{f"rival{i}_aim": 0.0 for i in range(3)},
    **{f"rival{i}_speed": 0.5 for i in range(3)},
}
STRAIGHT_STREET = {
    **{"speed": 8.0, "slip": 0.0, "steer": 0.0, "last_ahead": -40.0, "last_side": 0.0},
    **{f"lamp{k}_ahead": 60.0 + 80.0 * k for k in range(6)},
    **{f"lamp{k}_side": 0.0 for k in range(6)},
    **{f"car{k}_{key}": 900.0 for k in range(3) for key in ("ahead", "side")},
    **{f"car{k}_{key}": 0.0 for k in range(3) for key in ("heading", "speed")},
}


def keys(env_id, state, **changes):
    """The keys that the driver of a game holds down in a state."""
    action = ScriptedPolicy(env_id).act(None, {"game_state": {**state, **changes}})
    return set(ACTIONS[env_id][action])


def test_random_choices_follow_from_the_seed_alone():
    first, second = RandomPolicy(8), RandomPolicy(8)
    first.reset(3)
    second.reset(3)
    choices = [first.act(None, {}) for _ in range(50)]
    assert choices == [second.act(None, {}) for _ in range(50)]
    first.reset(4)
    assert choices != [first.act(None, {}) for _ in range(50)]


def test_random_choices_cover_every_action_about_evenly():
    policy = RandomPolicy(8)
    policy.reset(0)
    counts = Counter(policy.act(None, {}) for _ in range(4000))
    assert sorted(counts) == list(range(8))
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_a_random_policy_without_actions_is_refused():
    with pytest.raises(ConfigError, match="action_count"):
        RandomPolicy(0)


def test_holding_returns_its_action_whatever_comes():
    policy = HoldPolicy(5)
    policy.reset(1)
    assert {policy.act(None, {"game_state": FREE_ROAD}) for _ in range(3)} == {5}


def test_an_environment_without_a_driver_is_named_with_those_that_have_one():
    with pytest.raises(ConfigError, match=r"test\.Catch-v0.*flashgames\.NeonRace-v0"):
        ScriptedPolicy("test.Catch-v0")


@pytest.mark.parametrize("env_id", [NEON, DUSK])
def test_without_a_game_state_a_driver_presses_nothing(env_id):
    policy = ScriptedPolicy(env_id)
    policy.reset(None)
    assert ACTIONS[env_id][policy.act(None, {})] == ()


def test_the_racer_goes_flat_out_with_nitro_on_a_free_straight():
    assert keys(NEON, FREE_ROAD) == {"ArrowUp", "x"}
    assert keys(NEON, FREE_ROAD, nitro=0.0) == {"ArrowUp"}


@pytest.mark.parametrize(("lane", "side"), [(-0.3, "ArrowRight"), (0.3, "ArrowLeft")])
def test_the_racer_swerves_around_a_rival_on_the_side_that_is_nearer(lane, side):
    changes = {"rival0_gap": 7.0, "rival0_lane": lane, "rival0_aim": lane, "rival0_speed": 0.4}
    assert side in keys(NEON, FREE_ROAD, **changes)


def test_the_racer_steers_back_from_the_verge():
    assert "ArrowLeft" in keys(NEON, FREE_ROAD, lane=1.3)
    assert "ArrowRight" in keys(NEON, FREE_ROAD, lane=-1.3)


def test_the_racer_steers_into_a_bend():
    assert "ArrowRight" in keys(NEON, FREE_ROAD, lane=-0.6, bend=5.0, bend_near=5.0, bend_far=5.0)


def test_the_racer_goes_for_a_pick_up_beside_it():
    assert "ArrowLeft" in keys(NEON, FREE_ROAD, pickup_gap=16.0, pickup_lane=-0.6)


def test_the_courier_keeps_straight_on_to_lanterns_ahead():
    assert keys(DUSK, STRAIGHT_STREET) == {"ArrowUp"}


@pytest.mark.parametrize(("sign", "side"), [(-1, "ArrowLeft"), (1, "ArrowRight")])
def test_the_courier_turns_towards_lanterns_round_the_corner(sign, side):
    corner = {"lamp0_ahead": 50.0, "lamp0_side": 0.0}
    corner |= {f"lamp{k}_ahead": 50.0 for k in range(1, 6)}
    corner |= {f"lamp{k}_side": sign * 80.0 * k for k in range(1, 6)}
    assert side in keys(DUSK, STRAIGHT_STREET, **corner)


@pytest.mark.parametrize("side", [-8.0, 8.0])
def test_the_courier_brakes_or_swerves_for_a_car_that_stands_in_its_way(side):
    changes = {"car0_ahead": 70.0, "car0_side": side}
    assert keys(DUSK, STRAIGHT_STREET, **changes) - {"ArrowUp"}
