from __future__ import annotations

import json
import re

import pytest

from raygym.wire import rewarder
from raygym.wire.rewarder import Message, format_message
from raygym.wire.rewarder_server import Close, ResetRequested, RewarderServer, Send

ENV, OTHER = "flashgames.NeonRace-v0", "flashgames.DuskDrive-v0"
GOOD = dict(rewarder.request_headers("hunter22"))["authorization"]
BAD = dict(rewarder.request_headers("hunter23"))["authorization"]


@pytest.fixture
def server() -> RewarderServer:
    return RewarderServer(password="hunter22", env_ids=[ENV, OTHER], fps=25, manifest={"p": 1})


def _join(server: RewarderServer, connection: int, *, observer: bool = False) -> list:
    return server.connect(connection, authorization=GOOD, is_observer=observer, now_s=1.0)


def _seen(outputs, connection: int | None = None) -> list[tuple[str, dict, dict]]:
    """Method, headers and body of each text, to one connection or to all."""
    texts = [
        json.loads(o.text)
        for o in outputs
        if isinstance(o, Send) and connection in (None, o.connection)
    ]
    return [(t["method"], t["headers"], t["body"]) for t in texts]


def _ask(method: str, body: dict | None = None, *, message_id: object = 7, **headers) -> str:
    return format_message(
        Message(method, {"message_id": message_id, "sent_at": 1.5, **headers}, body or {})
    )


def _reset(env_id: object = ENV, *, seed: object = None, fps: object = 25, **headers) -> str:
    return _ask(rewarder.RESET, {"env_id": env_id, "seed": seed, "fps": fps}, **headers)


def _play(server: RewarderServer, connection: int = 1, **reset) -> list:
    """Asks for a reset and carries it out; returns what was sent."""
    (asked,) = server.receive(connection, _reset(**reset), now_s=2.0)
    sent = server.resetting(asked.env_id, now_s=2.0, request=asked.request)
    return [*sent, *server.running(now_s=3.0, requests=[asked.request])]


def test_a_client_is_described_to_at_once_with_the_frame_rate_then_told_the_manifest(server):
    described, manifest = _seen(_join(server, 1))
    assert described[0] == "v0.env.describe"
    assert described[1] == {"message_id": 0, "sent_at": 1.0, "episode_id": "0"}
    assert described[2] == {"env_id": None, "env_state": None, "fps": 25}
    assert manifest[0] == "v0.raygym.manifest"
    assert manifest[2] == {"p": 1}


@pytest.mark.parametrize("authorization", [None, BAD, "Basic x"])
def test_a_stranger_is_told_why_and_closed_and_never_hears_of_an_episode(server, authorization):
    farewell, close = server.connect(1, authorization=authorization, is_observer=False, now_s=1.0)
    assert json.loads(farewell.text)["method"] == "v0.connection.close"
    assert isinstance(close, Close)
    assert close.code == 1000
    assert "hunter" not in farewell.text + close.reason
    assert server.connections == 0
    assert server.receive(1, _reset(), now_s=2.0) == []


def test_a_reset_goes_to_the_owner_with_its_seed_and_rate(server):
    _join(server, 1)
    (asked,) = server.receive(1, _reset(OTHER, seed=9, fps=12.5), now_s=2.0)
    assert isinstance(asked, ResetRequested)
    assert (asked.env_id, asked.seed, asked.fps) == (OTHER, 9, 12.5)


def test_the_order_is_resetting_running_reply(server):
    _join(server, 1)
    resetting, running, reply = _seen(_play(server, message_id=31))
    assert (resetting[2]["env_state"], resetting[1]["episode_id"]) == ("resetting", "1")
    assert (running[2]["env_state"], running[1]["episode_id"]) == ("running", "1")
    assert reply[0] == "v0.reply.env.reset"
    assert reply[1]["parent_message_id"] == 31
    assert reply[1]["episode_id"] == "1"
    assert reply[1]["parent_runtime"] == 1.0


def test_only_who_asked_is_answered_and_everybody_is_told_the_state(server):
    _join(server, 1)
    _join(server, 2, observer=True)
    sent = _play(server)
    assert [m for m, _, _ in _seen(sent, 2)] == ["v0.env.describe", "v0.env.describe"]
    assert len(_seen(sent, 1)) == 3


def test_resetting_always_begins_a_new_episode_and_running_never_does(server):
    _join(server, 1)
    _play(server)
    server.resetting(ENV, now_s=4.0)
    server.resetting(ENV, now_s=4.0)
    server.running(now_s=4.0)
    server.running(now_s=4.0)
    assert server.episode == 3


def test_an_episode_that_a_client_already_left_is_bumped_past(server):
    _join(server, 1)
    (asked,) = server.receive(1, _reset(episode_id="12"), now_s=2.0)
    server.resetting(ENV, now_s=2.0, request=asked.request)
    assert server.episode == 13


@pytest.mark.parametrize("episode_id", [3, None, "1.2", "-4", "x", "9" * 5000])
def test_an_odd_episode_id_of_a_client_counts_as_none(server, episode_id):
    _join(server, 1)
    (asked,) = server.receive(1, _reset(episode_id=episode_id), now_s=2.0)
    server.resetting(ENV, now_s=2.0, request=asked.request)
    assert server.episode == 1


@pytest.mark.parametrize(
    ("reset", "reason"),
    [
        (
            {"env_id": "gtav.Speed-v0"},
            "unknown env_id 'gtav.Speed-v0'. This remote has: .*NeonRace",
        ),
        ({"env_id": None}, "unknown env_id None"),
        ({"env_id": ["a"]}, "unknown env_id"),
        ({"seed": "lucky"}, "seed must be a whole number or null, got 'lucky'"),
        ({"seed": True}, "seed must be"),
    ],
)
def test_a_bad_reset_is_refused_before_any_state_changes(server, reset, reason):
    _join(server, 1)
    ((method, headers, body),) = _seen(server.receive(1, _reset(**reset), now_s=2.0))
    assert method == "v0.reply.error"
    assert headers["parent_message_id"] == 7
    assert re.search(reason, body["message"])
    assert (server.episode, server.env_state) == (0, None)


@pytest.mark.parametrize("fps", [0, -1, 61, 1000, "fast", None, True])
def test_a_frame_rate_out_of_range_is_ignored(server, fps):
    _join(server, 1)
    (asked,) = server.receive(1, _reset(fps=fps), now_s=2.0)
    assert asked.fps == 25


def test_a_message_id_is_echoed_as_it_came(server):
    _join(server, 1)
    for message_id in (0, 26, "26"):
        ((_, headers, _),) = _seen(
            server.receive(1, _ask(rewarder.PING, message_id=message_id), now_s=2.0)
        )
        assert headers["parent_message_id"] == message_id
        assert type(headers["parent_message_id"]) is type(message_id)


def test_every_message_says_when_it_was_sent_and_counts_up(server):
    first = _join(server, 1)
    rest = [
        *_play(server),
        *server.reward(1.0, done=False, info={}, now_s=5.0),
        *server.text("hi", now_s=6.0),
    ]
    headers = [h for _, h, _ in _seen([*first, *rest])]
    assert [h["message_id"] for h in headers] == list(range(len(headers)))
    assert all(isinstance(h["sent_at"], float) for h in headers)


def test_a_reward_always_has_an_info_object(server):
    _join(server, 1)
    _play(server)
    ((method, headers, body),) = _seen(server.reward(1.5, done=True, info={"a": 1}, now_s=5.0))
    assert method == "v0.env.reward"
    assert headers["episode_id"] == "1"
    assert body == {"reward": 1.5, "done": True, "info": {"a": 1}}


def test_a_second_client_is_turned_out_at_its_first_message_with_a_hint(server):
    _join(server, 1)
    server.receive(1, _ask(rewarder.PING), now_s=2.0)
    assert len(_seen(_join(server, 2))) == 2
    farewell, close = server.receive(2, _ask(rewarder.PING), now_s=2.0)
    assert json.loads(farewell.text)["method"] == "v0.connection.close"
    assert "HINT" in farewell.text
    assert close.connection == 2
    assert "parent_message_id" not in json.loads(farewell.text)["headers"]


def test_who_connects_without_a_word_takes_nobody_s_place(server):
    _join(server, 1)
    _join(server, 2)
    assert _seen(server.receive(2, _ask(rewarder.PING), now_s=2.0))[0][0].endswith("ping")


def test_the_place_is_free_once_its_client_has_left(server):
    _join(server, 1)
    server.receive(1, _ask(rewarder.PING), now_s=2.0)
    server.disconnect(1)
    _join(server, 2)
    assert _seen(server.receive(2, _ask(rewarder.PING), now_s=2.0))[0][0].endswith("ping")


def test_observers_may_ping_but_not_reset_and_never_become_active(server):
    _join(server, 1, observer=True)
    assert _seen(server.receive(1, _ask(rewarder.PING), now_s=2.0))[0][0].endswith("ping")
    ((method, _, body),) = _seen(server.receive(1, _reset(), now_s=2.0))
    assert (method, body["message"]) == ("v0.reply.error", "observers cannot reset")
    _join(server, 2)
    assert isinstance(server.receive(2, _reset(), now_s=2.0)[0], ResetRequested)


def test_an_unknown_method_is_ignored(server):
    _join(server, 1)
    assert server.receive(1, _ask("v0.agent.action"), now_s=2.0) == []


def test_what_is_no_message_closes_its_connection_only(server):
    _join(server, 1)
    _join(server, 2, observer=True)
    _, close = server.receive(1, "{", now_s=2.0)
    assert close.connection == 1
    assert server.connections == 1


def test_a_client_that_left_before_the_answer_is_not_answered(server):
    _join(server, 1)
    (asked,) = server.receive(1, _reset(), now_s=2.0)
    server.disconnect(1)
    assert server.running(now_s=3.0, requests=[asked.request]) == []
    assert server.refuse(asked.request, "no", now_s=3.0) == []


def test_a_close_reason_fits_a_websocket_s_frame(server):
    _join(server, 1)
    outputs = server.close_all("é" * 200, now_s=2.0)
    assert len(outputs[-1].reason.encode()) <= 123
    assert server.connections == 0
