from __future__ import annotations

import pytest

from raygym.core import Endpoint, Lag, Remote, Secret
from raygym.errors import ConfigError


def test_an_endpoint_prints_as_it_is_written():
    assert str(Endpoint(path="/run/vnc.sock")) == "unix:/run/vnc.sock"
    assert str(Endpoint(host="10.0.0.1", port=5900)) == "10.0.0.1:5900"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"path": "/a", "host": "b", "port": 1},
        {"host": "b"},
        {"host": "b", "port": 0},
        {"host": "b", "port": 65536},
    ],
)
def test_an_endpoint_that_names_no_one_place_is_refused(fields):
    with pytest.raises(ConfigError, match="Endpoint"):
        Endpoint(**fields)


def test_a_password_shows_in_no_text_of_a_remote():
    remote = Remote(
        id="r-1",
        runtime="flashgames",
        vnc=Endpoint(path="/a"),
        rewarder=None,
        password=Secret("hunter22"),
    )

    assert "hunter22" not in f"{remote} {remote!r} {remote.password}"
    assert remote.password.reveal() == "hunter22"


def test_reaction_time_is_the_sum_of_its_parts():
    assert Lag(observation_ms=14.0, thinking_ms=6.0, action_ms=2.5).reaction_ms == 22.5


def test_reaction_time_is_unknown_while_a_part_is():
    assert Lag(observation_ms=14.0, thinking_ms=6.0).reaction_ms is None
