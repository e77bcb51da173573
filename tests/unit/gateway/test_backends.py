from __future__ import annotations

from typing import Any

import pytest

from raygym.errors import ConfigError
from raygym.gateway import backends
from raygym.gateway.backends import open_backend
from raygym.gateway.pool import Wanted
from raygym.service import leased

CARTPOLE = Wanted(env_id="gym-core.CartPole-v1", runtime="gym-core", mode="lockstep")
SCREEN = Wanted(env_id="gym-core.CartPole-v1", runtime="gym-core", mode="realtime")
GAME = Wanted(env_id="flashgames.NeonRace-v0", runtime="flashgames", mode="lockstep")


class Seen:
    """What a backend was made with."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.mark.parametrize("wanted", [CARTPOLE, GAME])
def test_a_process_in_lock_step_knows_one_environment_only(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "ProcessBackend", Seen)
    made: Any = open_backend(wanted, backend="process", start_timeout_s=7.0, is_on_ray=True)
    assert made.arguments == {
        "start_timeout_s": 7.0,
        "arguments": ("--mode", "lockstep", "--env", wanted.env_id),
    }


def test_one_in_real_time_is_started_as_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "ProcessBackend", Seen)
    made: Any = open_backend(SCREEN, backend="process", start_timeout_s=7.0, is_on_ray=True)
    assert made.arguments["arguments"] == ("--mode", "realtime", "--env", SCREEN.env_id)


def test_a_container_is_leased_in_the_registry_of_the_cluster_and_not_kept_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leased, "leased_backend_on_ray", Seen)
    made: Any = open_backend(CARTPOLE, backend="docker", start_timeout_s=7.0, is_on_ray=True)
    assert made.arguments == {
        "variant": ("--mode", "lockstep", "--env", CARTPOLE.env_id),
        "env_id": CARTPOLE.env_id,
        "keep_s": 0.0,
    }


def test_a_gateway_has_no_other_backends() -> None:
    with pytest.raises(ConfigError, match="a gateway takes auto, docker or process"):
        open_backend(CARTPOLE, backend="fake", start_timeout_s=7.0, is_on_ray=False)
