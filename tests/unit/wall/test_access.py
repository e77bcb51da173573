from __future__ import annotations

import pytest

from raygym.core import Secret
from raygym.errors import ConfigError
from raygym.wall.access import COOKIE, Access, new_token

TOKEN = Secret("a-token-of-some-length")
OTHER = Secret("another-token-of-length")


def test_another_interface_takes_a_token():
    with pytest.raises(ConfigError, match="--token"):
        Access("0.0.0.0")
    assert Access("0.0.0.0", token=TOKEN).token == TOKEN


@pytest.mark.parametrize("name", ["token", "take_over"])
def test_a_token_that_could_be_guessed_is_refused(name):
    with pytest.raises(ConfigError, match="16 characters"):
        Access("127.0.0.1", **{name: Secret("short")})


def test_new_tokens_differ_and_are_long_enough():
    first, second = new_token(), new_token()

    assert first != second
    assert Access("0.0.0.0", token=first, take_over=second).can_drive


def test_whoever_reaches_loopback_may_look_where_there_is_no_token():
    assert Access("127.0.0.1").may_look({}, "")


def test_a_token_is_asked_for_where_there_is_one():
    access = Access("127.0.0.1", token=TOKEN)

    assert not access.may_look({}, "")
    assert not access.may_look({COOKIE: TOKEN.reveal()}, "")
    assert not access.may_look({}, f"Bearer {OTHER.reveal()}")
    assert not access.may_look({}, f"Basic {TOKEN.reveal()}")
    assert access.may_look({COOKIE: access.session}, "")
    assert access.may_look({}, f"Bearer {TOKEN.reveal()}")


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:8270", None, True),
        ("127.0.0.1:8270", "http://127.0.0.1:8270", True),
        ("localhost:9000", "http://localhost:9000", True),
        ("[::1]:9000", None, True),
        ("127.0.0.1:8270", "http://evil.example", False),
        ("127.0.0.1:8270", "http://127.0.0.1:9999", False),
        ("127.0.0.1:8270", "null", False),
        ("evil.example", "http://evil.example", False),
        ("evil.example:8270", None, False),
    ],
    ids=lambda value: str(value),
)
def test_pages_of_others_and_names_of_others_are_refused_without_a_token(host, origin, expected):
    assert Access("127.0.0.1").is_ours(host, origin) is expected


def test_with_a_token_any_name_of_the_machine_will_do_but_no_page_of_others():
    access = Access("0.0.0.0", token=TOKEN)

    assert access.is_ours("head.example:8270", "http://head.example:8270")
    assert not access.is_ours("head.example:8270", "http://evil.example")


def test_a_ticket_opens_its_screen_once():
    access = Access("127.0.0.1", take_over=TOKEN)
    ticket = access.ticket(TOKEN.reveal(), "run/1")

    assert ticket is not None
    assert not access.is_right_ticket(ticket, "run/2")
    ticket = access.ticket(TOKEN.reveal(), "run/1")
    assert access.is_right_ticket(ticket, "run/1")
    assert not access.is_right_ticket(ticket, "run/1")


def test_a_ticket_is_good_for_half_a_minute():
    now_s = [0.0]
    access = Access("127.0.0.1", take_over=TOKEN, clock=lambda: now_s[0])
    ticket = access.ticket(TOKEN.reveal(), "run/1")
    now_s[0] = 31.0

    assert not access.is_right_ticket(ticket, "run/1")


def test_no_token_but_the_right_one_gives_a_ticket():
    assert Access("127.0.0.1", take_over=TOKEN).ticket(OTHER.reveal(), "run/1") is None
    assert Access("127.0.0.1").ticket("", "run/1") is None
    assert Access("127.0.0.1", token=TOKEN).ticket(TOKEN.reveal(), "run/1") is None


def test_no_token_is_printed():
    assert TOKEN.reveal() not in repr(Access("127.0.0.1", token=TOKEN, take_over=TOKEN))
