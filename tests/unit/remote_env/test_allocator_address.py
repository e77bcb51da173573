from __future__ import annotations

import pytest

from raygym.errors import ConfigError
from raygym.remote_env.address import REMOTES_VARIABLE, parse_remotes
from raygym.remote_env.allocator_address import AllocatorAddress, parse_allocator


def token(address: AllocatorAddress) -> str | None:
    return None if address.token is None else address.token.reveal()


def test_an_address_has_a_host_a_port_and_a_token() -> None:
    address = parse_allocator("http://secret@gateway:8080")
    assert (address.host, address.port, address.is_tls) == ("gateway", 8080, False)
    assert token(address) == "secret"
    assert (address.count, address.cpu, address.placement) == (None, None, "public")
    assert address.id == "http://gateway:8080"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://a", "http://a:80"),
        ("https://a", "https://a:443"),
        ("HTTP://A.Example:80/", "http://a.example:80"),
        ("https://[::1]:8080", "https://[::1]:8080"),
        (" http://10.0.0.1:1 ", "http://10.0.0.1:1"),
    ],
)
def test_a_port_may_be_left_out_and_ipv6_stands_in_brackets(text: str, address: str) -> None:
    assert parse_allocator(text).id == address


def test_universes_query_says_how_many_and_of_what() -> None:
    address = parse_allocator("http://a:1?n=4&cpu=3.9&address=private&token=p%26q")
    assert (address.count, address.cpu, address.placement) == (4, 3.9, "private")
    assert token(address) == "p&q"


def test_without_its_token_it_reads_back_the_same_but_for_the_count() -> None:
    address = parse_allocator("https://p%2Fq@[::1]:8?n=4&cpu=2&address=pod")
    assert "p/q" not in address.without_token
    assert token(parse_allocator(address.without_token)) is None
    again = parse_allocator(address.without_token + address.token_query)
    assert (again.id, again.cpu, again.placement, token(again)) == (
        address.id,
        2.0,
        "pod",
        "p/q",
    )
    assert again.count is None
    assert parse_allocator("http://a").token_query == ""


def test_remotes_may_be_the_address_of_an_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_remotes("http://a:1") == parse_allocator("http://a:1")
    monkeypatch.setenv(REMOTES_VARIABLE, "https://a:1?n=2")
    assert parse_remotes(None) == parse_allocator("https://a:1?n=2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://", "expected a host"),
        ("http://a,b", "expected a host"),
        ("http://a:0", "expected a host"),
        ("http://a:99999", "a port from 1 to 65535"),
        ("http://a:x", "a port from 1 to 65535"),
        ("http://[::1", "expected a host"),
        ("http://a/path", "nothing between the port and the"),
        ("http://a#b", "nothing between the port and the"),
        ("http://secret:more@a", "a token before the @, without a colon"),
        ("http://secret@a?token=other", "not in both places"),
        ("http://a?token=sec%3Aret", "no colon"),
        ("http://a?n=0", "n: expected a count"),
        ("http://a?n=x", "n: expected a count"),
        ("http://a?n=1&n=2", "n= stands there twice"),
        ("http://a?cpu=-1", "cpu: expected cores"),
        ("http://a?cpu=nan", "cpu: expected cores"),
        ("http://a?address=mars", "address: expected public, pod, private"),
        ("http://a?tag=1", "expected n, cpu, address, token after the"),
    ],
)
def test_what_is_malformed_is_said_without_the_token(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_remotes(text)
    assert message in str(raised.value)
    assert "right: http://127.0.0.1:8080" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_token_never_shows_in_a_repr() -> None:
    assert "secret" not in repr(parse_allocator("http://secret@a"))
