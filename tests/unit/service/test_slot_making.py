from __future__ import annotations

import pickle
from typing import Any

import pytest

from raygym.errors import ConfigError
from raygym.service.slot_making import SlotsOfId, is_realtime, slots_of_id


def make(env_id: str = "CartPole-v1", **make_kwargs: Any) -> SlotsOfId:
    return slots_of_id(env_id, frame_stack=1, supervision=None, make_kwargs=make_kwargs)


def test_slots_of_an_id_are_made_and_pickle():
    slots = pickle.loads(pickle.dumps(make()))(4, 3)
    try:
        assert slots.num_slots == 3
        assert slots.single_action_space.n == 2
    finally:
        slots.close()


def test_frames_are_stacked():
    made = slots_of_id("CartPole-v1", frame_stack=3, supervision=None, make_kwargs={})(0, 1)
    try:
        assert made.single_observation_space.shape == (12,)
    finally:
        made.close()


def test_each_actor_gets_its_share_of_the_addresses_and_the_token(monkeypatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "raygym.environments.slots.make_slots",
        lambda env_id, num_slots, **rest: asked.append({"n": num_slots, **rest}),
    )
    slots = make(
        "flashgames.NeonRace-v0",
        remotes="grpc://a:1,grpc://b:2, grpc://c:3?token=secret",
        client_id="me",
        mode="lockstep",
    )
    assert "secret" not in repr(slots)
    slots(0, 2)
    slots(2, 1)
    assert [row["remotes"] for row in asked] == [
        "grpc://a:1,grpc://b:2?token=secret",
        "grpc://c:3?token=secret",
    ]
    assert [(row["client_id"], row["first_slot"]) for row in asked] == [("me", 0), ("me", 2)]
    assert asked[0]["mode"] == "lockstep"
    with pytest.raises(ConfigError, match="5 slots need as many addresses, got 3"):
        slots(2, 3)


def test_every_actor_asks_the_same_allocator_and_the_token_is_not_shown(monkeypatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "raygym.environments.slots.make_slots",
        lambda env_id, num_slots, **rest: asked.append({"n": num_slots, **rest}),
    )
    slots = make("flashgames.NeonRace-v0", remotes="http://secret@a:8?n=3&cpu=2", client_id="me")
    assert "secret" not in repr(slots)
    slots = pickle.loads(pickle.dumps(slots))
    slots(0, 2)
    slots(2, 1)
    assert {row["remotes"] for row in asked} == {
        "http://a:8?cpu=2&address=public&token=secret",
    }
    assert [(row["n"], row["first_slot"]) for row in asked] == [(2, 0), (1, 2)]
    assert is_realtime(slots)


def test_addresses_of_screens_keep_their_scheme(monkeypatch):
    monkeypatch.setenv("RAYGYM_REMOTES", "vnc://a:5900+15900,b:5901+15901")
    slots = make("flashgames.NeonRace-v0")
    assert slots.addresses == ("vnc://a:5900+15900", "vnc://b:5901+15901")
    assert is_realtime(slots)


def test_who_owns_time_is_known_before_anything_is_started():
    assert not is_realtime(make())
    assert is_realtime(make("flashgames.NeonRace-v0", mode="realtime"))
    assert not is_realtime(make("flashgames.NeonRace-v0", mode="lockstep"))


def test_an_unknown_environment_is_told():
    with pytest.raises(ConfigError, match="unknown environment"):
        is_realtime(make("NoSuchThing-v0"))


def test_each_service_has_clients_of_its_own_unless_they_are_named():
    assert make().client_id != make().client_id
    assert make(client_id="steady").client_id == "steady"
