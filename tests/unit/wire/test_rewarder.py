from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import RemoteProtocolError
from raygym.wire import rewarder
from raygym.wire.rewarder import Message, format_message, parse_message, password_of

TEXT = st.text(max_size=8)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
JSON = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(TEXT, LEAF, max_size=3)
BODY = st.dictionaries(TEXT, JSON, max_size=4)


@given(TEXT, BODY, BODY)
def test_a_message_comes_back_as_it_was_sent(method, headers, body):
    message = Message(method, headers, body)
    assert parse_message(format_message(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"method": 3, "headers": {}}',
        '{"method": "a"}',
        '{"method": "a", "headers": []}',
        '{"method": "a", "headers": {}, "body": 3}',
        "[" * 100_000,
    ],
)
def test_what_is_no_message_is_a_protocol_error(text):
    with pytest.raises(RemoteProtocolError, match="reward channel"):
        parse_message(text)


def test_the_password_travels_as_the_user_name_of_basic_authorization():
    headers = dict(rewarder.request_headers("openai", is_observer=True))
    assert headers == {"authorization": "Basic b3BlbmFpOg==", "openai-observer": "true"}
    assert dict(rewarder.request_headers("openai"))["openai-observer"] == "false"


@given(st.text(alphabet=st.characters(exclude_characters=":", exclude_categories=["Cs"])))
def test_the_server_reads_the_password_that_the_client_wrote(password):
    assert password_of(dict(rewarder.request_headers(password))["authorization"]) == password


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "No authorization header supplied"),
        ("Bearer abc", "Could not parse"),
        ("Basic !!!", "Could not parse"),
        ("Basic " + base64.b64encode(b"secret").decode(), "Could not parse"),
        ("Basic " + base64.b64encode(b"secret:more").decode(), "Could not parse"),
        ("Basic " + base64.b64encode(b"\xff\xfe:").decode(), "Could not parse"),
    ],
)
def test_a_malformed_authorization_is_refused_without_repeating_it(header, reason):
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        password_of(header)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 1, 1.0, "", "1.2", "-1", "one", "²"])
def test_an_episode_id_is_a_string_that_holds_a_whole_number(value):
    with pytest.raises(RemoteProtocolError, match="episode_id"):
        rewarder.episode_number(Message("v0.env.reward", {"episode_id": value}))


def test_an_episode_id_is_read():
    assert rewarder.episode_number(Message("v0.env.reward", {"episode_id": "12"})) == 12


@pytest.mark.parametrize("value", [None, True, "3", [], float("nan"), float("inf")])
def test_a_number_is_a_finite_number(value):
    with pytest.raises(RemoteProtocolError, match="fps must be a number"):
        rewarder.number(Message("v0.env.describe"), {"fps": value}, "fps")
