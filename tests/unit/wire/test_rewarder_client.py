from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import RemoteProtocolError
from raygym.wire import rewarder
from raygym.wire.rewarder import Message, format_message
from raygym.wire.rewarder_client import (
    Closed,
    Described,
    ManifestArrived,
    Pong,
    ResetDone,
    ResetRefused,
    RewardArrived,
    RewarderClient,
    TextArrived,
)


def _text(method: str, body: dict | None = None, *, at: float = 100.0, **headers) -> str:
    return format_message(Message(method, {"sent_at": at, "message_id": 0, **headers}, body or {}))


def _describe(state: str | None, episode: str, **body) -> str:
    described = {"env_id": "test.Catch-v0", "env_state": state, "fps": 50, **body}
    return _text(rewarder.DESCRIBE, described, episode_id=episode)


def _reward(episode: str, **body) -> str:
    rewarded = {"reward": 1.0, "done": False, "info": {}, **body}
    return _text(rewarder.REWARD, rewarded, episode_id=episode)


@pytest.fixture
def client() -> RewarderClient:
    return RewarderClient()


def test_a_describe_says_what_the_remote_does(client):
    events = client.receive(_describe("running", "3"), now_s=0)
    assert events == [Described("test.Catch-v0", "running", "3", 50.0)]
    assert (client.env_id, client.env_state, client.episode_id, client.fps) == (
        *("test.Catch-v0", "running"),
        *("3", 50.0),
    )


def test_a_reset_is_asked_for_and_its_answer_found(client):
    client.ping(now_s=1.0)
    asked = json.loads(client.reset("test.Catch-v0", seed=7, fps=50, now_s=2.0))

    assert asked["method"] == "v0.env.reset"
    assert asked["body"] == {"env_id": "test.Catch-v0", "seed": 7, "fps": 50}
    assert asked["headers"] == {"message_id": 1, "sent_at": 2.0, "episode_id": "0"}
    answer = _text(rewarder.RESET_REPLY, parent_message_id=1, parent_runtime=0.5, episode_id="4")
    assert client.receive(answer, now_s=3.0) == [ResetDone("4", 0.5)]


def test_a_refused_reset_says_why(client):
    client.reset("nope", seed=None, fps=50, now_s=2.0)
    refusal = _text(rewarder.ERROR_REPLY, {"message": "unknown env_id"}, parent_message_id=0)
    assert client.receive(refusal, now_s=3.0) == [ResetRefused("unknown env_id")]


@pytest.mark.parametrize(("runtime", "told_s"), [(None, None), (0.5, 0.5), (2, 2.0)])
def test_how_long_a_reset_took_may_be_left_out(client, runtime, told_s):
    client.reset("test.Catch-v0", seed=None, fps=50, now_s=2.0)
    headers = {"parent_message_id": 0, "parent_runtime": runtime, "episode_id": "4"}
    answer = _text(rewarder.RESET_REPLY, **headers)
    assert client.receive(answer, now_s=3.0) == [ResetDone("4", told_s)]


def test_a_reset_that_took_longer_than_a_number_holds_is_a_protocol_error(client):
    client.reset("test.Catch-v0", seed=None, fps=50, now_s=2.0)
    headers = {"parent_message_id": 0, "parent_runtime": 10**400, "episode_id": "4"}
    with pytest.raises(RemoteProtocolError, match="parent_runtime must be a number"):
        client.receive(_text(rewarder.RESET_REPLY, **headers), now_s=3.0)


@pytest.mark.parametrize("parent", [None, 5, "0", True, -1])
def test_an_answer_to_nothing_is_ignored(client, parent):
    client.reset("test.Catch-v0", seed=None, fps=50, now_s=2.0)
    answer = _text(rewarder.RESET_REPLY, parent_message_id=parent, episode_id="4")
    assert client.receive(answer, now_s=3.0) == []


def test_pings_bound_the_skew_of_the_clocks(client):
    assert client.clock_skew_s is None
    for sent_s, remote_s, came_s in ((10.0, 1010.2, 10.4), (20.0, 1020.1, 20.2)):
        client.ping(now_s=sent_s)
        message_id = 0 if sent_s == 10.0 else 1
        pong = _text(rewarder.PING_REPLY, parent_message_id=message_id, at=remote_s)
        assert client.receive(pong, now_s=came_s) == [Pong(pytest.approx(came_s - sent_s))]
    low, high = client.clock_skew_s
    assert low == pytest.approx(999.9)
    assert high == pytest.approx(1000.1)


def test_where_a_clock_was_set_the_fastest_ping_counts(client):
    for message_id, (sent_s, remote_s, came_s) in enumerate(
        ((10.0, 1010.2, 10.4), (20.0, 20.1, 20.2))
    ):
        client.ping(now_s=sent_s)
        client.receive(
            _text(rewarder.PING_REPLY, parent_message_id=message_id, at=remote_s), now_s=came_s
        )
    assert client.clock_skew_s == pytest.approx((-0.1, 0.1))


def test_rewards_count_from_the_answer_to_the_reset(client):
    client.reset("test.Catch-v0", seed=None, fps=50, now_s=2.0)
    client.receive(_reward("0"), now_s=3.0)
    assert client.pop(now_s=3.0).reward == 0.0
    answer = _text(rewarder.RESET_REPLY, parent_message_id=0, episode_id="1")
    client.receive(answer, now_s=3.0)
    assert client.receive(_reward("1", reward=2), now_s=3.0) == [RewardArrived("1", 2.0, False)]
    batch = client.pop(now_s=3.0)
    assert (batch.reward, batch.newest_sent_at_s) == (2.0, 100.0)


def test_texts_manifest_and_farewell_are_events(client):
    assert client.receive(_text(rewarder.TEXT, {"text": "hi"}, episode_id="0"), now_s=0) == [
        TextArrived("0", "hi")
    ]
    assert client.receive(_text(rewarder.MANIFEST, {"protocol": 1}), now_s=0) == [
        ManifestArrived({"protocol": 1})
    ]
    assert client.manifest == {"protocol": 1}
    assert client.receive(_text(rewarder.CLOSE, {"message": "bye"}), now_s=0) == [Closed("bye")]


def test_an_unknown_method_means_nothing(client):
    assert client.receive(_text("v1.from.the.future"), now_s=0) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (format_message(Message("v0.env.text", {}, {})), "sent_at"),
        (_describe("running", "1", fps=None), "fps"),
        (_describe("dancing", "1"), "env_state"),
        (_describe("running", "1", env_id=3), "env_id"),
        (_describe("running", "1.2"), "episode_id"),
        (_reward("1", info=None), "info"),
        (_reward("1", done=1), "done"),
        (_reward("1", reward="much"), "reward must be a number"),
        (_reward("1", reward=10**400), "reward must be a number"),
        (_reward("9" * 5000), "episode_id"),
    ],
)
def test_a_malformed_message_is_a_protocol_error_that_names_the_field(client, text, named):
    with pytest.raises(RemoteProtocolError, match=named):
        client.receive(text, now_s=0)


METHODS = [rewarder.DESCRIBE, rewarder.REWARD, rewarder.TEXT, rewarder.RESET_REPLY, rewarder.CLOSE]
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just({})
KEYS = st.sampled_from(["sent_at", "episode_id", "parent_message_id", "fps", "reward", "info"])


@given(st.sampled_from(METHODS), st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_no_message_raises_anything_but_a_protocol_error(method, headers, body):
    client = RewarderClient()
    client.reset("test.Catch-v0", seed=None, fps=50, now_s=2.0)
    with contextlib.suppress(RemoteProtocolError):
        client.receive(format_message(Message(method, headers, body)), now_s=0)
    assert client.pop(now_s=0).info is not None
