from __future__ import annotations

import argparse

import pytest

from raygym import watch_command
from raygym.errors import ConfigError
from raygym.wall import novnc


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    watch_command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("RAY_ADDRESS", watch_command.TOKEN_VARIABLE, watch_command.TAKE_OVER_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_a_wall_stays_on_loopback_for_looking_only_unless_told():
    arguments = parsed()

    assert (arguments.host, arguments.token, arguments.take_over) == ("127.0.0.1", None, None)
    assert arguments.address == "auto"


def test_tokens_can_be_given_where_no_list_of_processes_shows_them(monkeypatch):
    monkeypatch.setenv(watch_command.TOKEN_VARIABLE, "a-token-of-some-length")

    assert parsed().token == "a-token-of-some-length"
    assert parsed("--token", "another-token-of-length").token == "another-token-of-length"


def test_another_interface_without_a_token_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="--token"):
        watch_command.main(parsed("--host", "0.0.0.0"))


def test_a_cluster_that_is_not_there_is_said_at_once():
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: nothing answers"):
        watch_command.main(parsed("--address", "127.0.0.1:1"))


def test_novnc_lies_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path))

    assert not novnc.is_there()
    entry = novnc.folder() / "core" / "rfb.js"
    entry.parent.mkdir(parents=True)
    entry.write_text("")
    assert novnc.is_there()
    assert novnc.install() == novnc.folder()
