"""How a run is made to be seen."""

from __future__ import annotations

import pickle

import raygym
from raygym.service.metrics.meters import Meters


def test_a_show_says_what_is_played_and_opens_metrics_and_pictures():
    made = raygym.show("gym-core.CartPole-v1", backend="docker", client_id="me", channels=1)
    assert (made.env_id, made.runtime, made.mode) == (
        "gym-core.CartPole-v1",
        "gym-core",
        "lockstep",
    )
    assert made.run.startswith("gym-core.CartPole-v1-")
    assert (made.backend, made.client_id) == ("docker", "me")
    meters, pictures = made.opens
    assert meters == Meters.open
    assert pictures.args[0].channels == 1
    assert pickle.loads(pickle.dumps(made)).run == made.run


def test_ids_of_gymnasium_s_own_have_its_name_as_their_runtime():
    assert raygym.show("CartPole-v1").runtime == "gymnasium"
    assert raygym.show("ALE/Pong-v5", run="pong").run == "pong"


def test_more_spectators_come_after():
    def mine(_show, _actor):
        raise AssertionError("not opened here")

    assert raygym.show("CartPole-v1", opens=(mine,)).opens[-1] is mine
