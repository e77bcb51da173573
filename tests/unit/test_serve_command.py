from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from raygym import serve_command
from raygym.errors import ConfigError
from raygym.gateway.config import GatewayConfig
from raygym.gateway.status import GatewayStatus, StreamCounts
from raygym.gateway.tenants import ANYBODY

TOKEN = "annas-token-0123456789"


def read(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve_command.add_arguments(parser)
    return parser.parse_args(given)


def config(*given: str) -> GatewayConfig:
    return serve_command.gateway_config(read(*given))


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens.yaml"
    path.touch(0o600)
    path.write_text(f"tenants:\n- {{name: anna, token: {TOKEN}, quota: 3}}\n")
    return str(path)


def test_without_options_this_machine_alone_is_served() -> None:
    made = config()
    assert (made.host, made.port, made.tls, made.env_ids) == ("127.0.0.1", 50700, None, ("*",))
    assert made.http is not None
    assert (made.http.host, made.http.port) == ("127.0.0.1", 50701)
    assert made.tenants.of_token(None) == ANYBODY


def test_every_option_arrives(tokens: str) -> None:
    made = config(
        *("--host", "10.0.0.1", "--port", "1", "--http-port", "2", "--tokens", tokens),
        *("--tls-cert", "c.pem", "--tls-key", "k.pem", "--envs", "A", "b.*"),
        *("--backend", "process", "--slots", "3", "--queue-timeout", "4", "--keep", "5"),
        *("--idle-timeout", "6", "--start-timeout", "7", "--max-waiting", "8", "--max-envs", "9"),
        *("--advertise", "outside.example", "--forward-ports", "100-199"),
    )
    assert (made.host, made.port, made.env_ids, made.backend) == (
        "10.0.0.1",
        1,
        ("A", "b.*"),
        "process",
    )
    limits = made.limits
    assert (limits.slots, limits.queue_timeout_s, limits.keep_s) == (3, 4, 5)
    assert (limits.idle_timeout_s, limits.start_timeout_s) == (6, 7)
    assert (limits.max_waiting, limits.max_envs) == (8, 9)
    assert made.http is not None
    assert (made.http.port, made.http.advertise) == (2, "outside.example")
    assert made.http.forward_ports == (100, 199)
    assert made.tls is not None
    # The gateway runs in another process, with another working directory.
    assert made.tls.cert == Path("c.pem").absolute()
    assert made.http.tls == made.tls
    anna = made.tenants.of_token(TOKEN)
    assert anna is not None
    assert anna.quota == 3


def test_http_can_be_left_out() -> None:
    assert config("--http-port", "-1").http is None


def test_an_authority_of_clients_is_enough_to_be_let_in_by_certificate() -> None:
    made = config("--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a", "--quota", "2")
    tenant = made.tenants.of_certificate(["lab"])
    assert tenant is not None
    assert (tenant.name, tenant.quota) == ("lab", 2)
    assert made.tenants.of_token(None) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--host", "0.0.0.0"], "would serve anybody"),
        (["--tls-cert", "c"], "--tls-cert and --tls-key belong together"),
        (["--tls-ca", "c"], "--tls-cert and --tls-key belong together"),
        (["--tokens", "/absent"], "/absent"),
        (["--slots", "0"], "LeaseLimits.slots"),
        (["--forward-ports", "7"], "--forward-ports: expected FIRST-LAST"),
        (["--port", "-3"], "port"),
    ],
)
def test_what_makes_no_sense_is_refused_before_ray_starts(given: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serve_command.main(read(*given))


@pytest.mark.parametrize("option", ["--detach", "--stop", "--status"])
def test_what_needs_a_cluster_that_goes_on_says_so(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="RAY_ADDRESS"):
        serve_command.main(read(option))


def test_a_status_can_be_said_in_json() -> None:
    counts = StreamCounts(round_trip_buckets={0.001: 1, float("inf"): 2})
    status = GatewayStatus(slots=2, used=1, starting=0, idle=0, streams=counts)
    told = json.loads(json.dumps(serve_command.as_json(status), allow_nan=False))
    assert told["slots"] == 2
    assert told["streams"]["round_trip_buckets"] == {"0.001": 1, "inf": 2}
