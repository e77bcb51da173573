from __future__ import annotations

import pytest

from raygym.core import Endpoint, Remote
from raygym.errors import ConfigError
from raygym.remote_env.address import REMOTES_VARIABLE, RemoteCount, parse_remotes


def parse(text: str) -> list[Remote]:
    remotes = parse_remotes(text)
    assert isinstance(remotes, list)
    return remotes


def passwords(remotes: list[Remote]) -> list[str | None]:
    return [None if r.password is None else r.password.reveal() for r in remotes]


@pytest.mark.parametrize("value", [3, "3", " 3 "])
def test_a_count_may_be_a_number_or_its_digits(value: int | str) -> None:
    assert parse_remotes(value) == RemoteCount(3)


def test_none_takes_the_variable_and_without_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REMOTES_VARIABLE, raising=False)
    assert parse_remotes(None) == RemoteCount(1)
    monkeypatch.setenv(REMOTES_VARIABLE, "4")
    assert parse_remotes(None) == RemoteCount(4)
    monkeypatch.setenv(REMOTES_VARIABLE, "vnc://a:5900+15900")
    assert parse_remotes(None) == parse("vnc://a:5900+15900")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "0"])
def test_a_count_below_one_or_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        parse_remotes(value)  # type: ignore[arg-type]


def test_an_address_names_screen_and_rewards() -> None:
    (remote,) = parse("vnc://example.org:5900+15900")
    assert remote.vnc == Endpoint(host="example.org", port=5900)
    assert remote.rewarder == Endpoint(host="example.org", port=15900)
    assert remote.id == "example.org:5900+15900"
    assert passwords([remote]) == ["openai"]


@pytest.mark.parametrize(
    "text",
    [
        "vnc://a:5900+15900,b:5901+15901",
        "vnc://a:5900+15900,vnc://b:5901+15901",
        "vnc://a:5900+15900, b:5901+15901/",
    ],
)
def test_both_spellings_of_several_addresses_mean_the_same(text: str) -> None:
    assert [(str(r.vnc), str(r.rewarder)) for r in parse(text)] == [
        ("a:5900", "a:15900"),
        ("b:5901", "b:15901"),
    ]


def test_one_password_at_the_end_is_for_all() -> None:
    remotes = parse("vnc://a:5900+15900,b:5901+15901?password=p%2Cq+r")
    assert passwords(remotes) == ["p,q+r", "p,q+r"]


def test_a_screen_or_rewards_alone_are_addresses_too() -> None:
    (screen,) = parse("vnc://a:5900")
    assert (screen.vnc, screen.rewarder) == (Endpoint(host="a", port=5900), None)
    (rewards,) = parse("vnc://a+15900")
    assert (rewards.vnc, rewards.rewarder) == (None, Endpoint(host="a", port=15900))


def test_ipv6_stands_in_brackets() -> None:
    (remote,) = parse("vnc://[2001:db8::1]:5900+15900")
    assert remote.vnc == Endpoint(host="2001:db8::1", port=5900)
    assert remote.rewarder == Endpoint(host="2001:db8::1", port=15900)


def test_a_private_directory_gives_sockets_and_password(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.mktemp("r")
    (directory / "password").write_text("pw-of-it\n")
    other = tmp_path_factory.mktemp("s")
    remotes = parse(f"unix:{directory},{other}")
    assert remotes[0].vnc == Endpoint(path=f"{directory}/vnc.sock")
    assert remotes[0].rewarder == Endpoint(path=f"{directory}/rewarder.sock")
    assert passwords(remotes) == ["pw-of-it", None]
    assert passwords(parse(f"unix:{directory}?password=other")) == ["other"]


def test_grpc_remotes_have_a_port_and_maybe_tls() -> None:
    plain, other = parse("grpc://a:50051,[::1]:50052/?token=p%2Cq")
    assert plain.rpc == Endpoint(host="a", port=50051)
    assert other.rpc == Endpoint(host="::1", port=50052)
    assert (plain.vnc, plain.rewarder, plain.id) == (None, None, "grpc://a:50051")
    assert other.id == "grpc://[::1]:50052"
    assert passwords([plain, other]) == ["p,q", "p,q"]
    (tls,) = parse("grpcs://a.example:443")
    assert tls.rpc == Endpoint(host="a.example", port=443, is_tls=True)


def test_a_unix_socket_of_grpc_is_a_path() -> None:
    one, two = parse("grpc+unix:///run/a/rpc.sock,grpc+unix:///run/b/rpc.sock")
    assert one.rpc == Endpoint(path="/run/a/rpc.sock")
    assert two.rpc == Endpoint(path="/run/b/rpc.sock")


def test_ids_are_unique_and_hold_no_password() -> None:
    remotes = parse("vnc://a:5900+15900,b:5900+15900?password=hush")
    assert len({r.id for r in remotes}) == 2
    assert "hush" not in repr(remotes)


ANY_SCHEME = "expected vnc://, grpc://, grpcs://, grpc+unix:///, http://, https:// or unix:/"
MALFORMED = [
    # text, column of the caret, part of the message
    ("", 0, ANY_SCHEME),
    (
        "localhost:5900",
        0,
        ANY_SCHEME,
    ),
    ("ftp://host/path", 0, "got ftp:"),
    ("vnc:host:5900", 0, "vnc://"),
    ("unix:relative", 0, "absolute path"),
    ("vnc://", 6, "expected a host"),
    ("vnc://:5900", 6, "expected a host"),
    ("vnc://user@host:5900", 10, "expected :port"),
    ("vnc://host", 10, "expected :port"),
    ("vnc://host:", 11, "expected a port"),
    ("vnc://host:abc+15900", 11, "expected a port"),
    ("vnc://host:0+15900", 11, "expected a port"),
    ("vnc://host:65536", 11, "expected a port"),
    ("vnc://host:5900+", 16, "expected a port"),
    ("vnc://host:5900+15900+1", 21, "expected a comma"),
    ("vnc://host:5900+15900/path", 21, "expected a comma"),
    ("vnc://host:5900 vnc://b:5901", 16, "expected a comma"),
    ("vnc://a:5900+15900,", 19, "expected a host"),
    ("vnc://a:5900+15900,,b:5901+15901", 19, "expected a host"),
    ("vnc://a:5900+15900,http://b:1", 19, "got http:"),
    ("vnc://a:5900+15900,b:5901", 19, "all of the addresses have a reward port"),
    ("vnc://a+15900,b:5901+15901", 14, "all of the addresses have a screen"),
    ("vnc://a:5900+15900,vnc://a:5900+15900", 19, "twice"),
    ("vnc://[::1:5900", 15, "expected a ]"),
    ("vnc://[host]:5900", 7, "no IPv6 address"),
    ("vnc://::1:5900", 6, "expected a host"),
    ("vnc://a:5900?", 13, "expected password="),
    ("vnc://a:5900?pasword=x", 13, "expected password="),
    ("vnc://a:5900?password=", 22, "empty"),
    ("vnc://a:5900?password=x,vnc://b:5900", 13, "once for all"),
    ("unix:/" + "d" * 100, 5, "longer than"),
    ("grpc://host", 11, "expected :port of the gRPC server"),
    ("grpc:host:1", 0, "expected grpc://host:port"),
    ("grpcs://host:0", 13, "expected a port"),
    ("grpc://host:1/path", 13, "expected a comma"),
    ("grpc+unix://relative", 12, "the absolute path of a socket"),
    ("grpc+unix:/run/rpc.sock", 0, "with three slashes"),
    ("grpc+unix:///" + "d" * 120, 12, "longer than"),
    ("grpc://a:1,vnc://b:5900", 11, "all of the addresses have a screen"),
    ("grpc://a:1,grpc://a:1", 11, "twice"),
    ("grpc://a:1?tokn=x", 11, "expected password=... or token="),
    ("grpc://a:1?token=x,grpc://b:1", 11, "once for all"),
]


@pytest.mark.parametrize(("text", "column", "part"), MALFORMED)
def test_a_malformed_address_shows_the_place_and_a_right_example(
    text: str, column: int, part: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = parse_remotes(text) if text else parse_remotes(" ")
    message = str(caught.value)
    assert part in message
    lines = message.split("\n")
    assert lines[2] == "    " + " " * column + "^"
    assert "vnc://127.0.0.1:5900+15900" in lines[3]


def test_an_error_never_shows_the_password() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_remotes("vnc://a:99999?password=hush-hush")
    assert "hush-hush" not in str(caught.value)
    assert "password=***" in str(caught.value)


def test_every_example_of_an_error_is_right() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_remotes("nonsense")
    example = str(caught.value).rsplit("right: ", 1)[1].split(",")[0]
    assert len(parse(example)) == 1
