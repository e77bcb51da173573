from __future__ import annotations

import base64
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raygym import certs
from raygym.config import TlsFiles
from raygym.errors import ConfigError
from raygym.gateway.http_front import HttpConfig, HttpFront
from raygym.gateway.tenants import Entry, Tenant, Tenants, digest_of
from tests.support.http_gateway import (
    OPEN,
    OTHER_TOKEN,
    TOKEN,
    HttpGateway,
    http_gateway,
    request,
    two_tenants,
)


@pytest.fixture
def gateway() -> Iterator[HttpGateway]:
    with http_gateway(tenants=two_tenants()) as gateway:
        yield gateway


@pytest.fixture
def open_gateway() -> Iterator[HttpGateway]:
    with http_gateway() as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("POST", "/v1/allocations"),
        ("GET", "/v1/allocations/me"),
        ("POST", "/v1/allocations/me"),
        ("DELETE", "/v1/allocations/me"),
        ("GET", "/nothing"),
    ],
)
def test_nothing_but_health_is_told_without_a_token(
    gateway: HttpGateway, method: str, path: str
) -> None:
    for token in ("", "wrong-" + "x" * 20):
        answer = gateway.ask(method, path, token=token)
        assert answer.status == 401
        assert "a token is needed" in answer.json["detail"]
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_token_may_come_as_user_as_password_or_as_bearer(gateway: HttpGateway) -> None:
    as_password = base64.b64encode(f":{TOKEN}".encode()).decode()
    for said in (f"Basic {as_password}", f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
        answer = gateway.ask("GET", "/metrics", headers={"Authorization": said})
        assert answer.status == 200, said
    assert gateway.ask("GET", "/", token=OTHER_TOKEN).status == 200


@pytest.mark.parametrize(
    "said", ["", "Basic", "Basic !!!", "Basic /w==", f"Digest {TOKEN}", TOKEN, "Bearer"]
)
def test_a_header_that_makes_no_sense_is_no_token(gateway: HttpGateway, said: str) -> None:
    assert gateway.ask("GET", "/metrics", headers={"Authorization": said}).status == 401


def test_health_needs_no_token_and_says_nothing_else(gateway: HttpGateway) -> None:
    answer = gateway.ask("GET", "/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")


def test_a_gateway_that_is_being_stopped_is_not_healthy_and_lends_nothing(
    gateway: HttpGateway,
) -> None:
    gateway.front.drain()
    assert gateway.ask("GET", "/healthz").status == 503
    answer = gateway.ask("POST", "/v1/allocations", request("me"), token=TOKEN)
    assert (answer.status, answer.json["detail"]) == (503, "this gateway is being stopped")


def test_an_open_gateway_takes_the_key_that_universes_clients_always_send(
    open_gateway: HttpGateway,
) -> None:
    answer = open_gateway.ask(
        "POST", "/v1/allocations", request("me"), token="tyytjgq3envte2j9yv2e-anna"
    )
    assert answer.status == 200


def test_an_open_gateway_answers_to_names_of_this_machine_only(open_gateway: HttpGateway) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert open_gateway.ask("GET", "/", headers={"Host": f"{host}:1"}).status == 200
    answer = open_gateway.ask("GET", "/", headers={"Host": "attacker.example"})
    assert (answer.status, answer.json["detail"]) == (
        421,
        "this gateway is not called attacker.example",
    )


@pytest.mark.parametrize("host", ["a:b:c", "127.0.0.1:99999"])
def test_a_name_that_makes_no_sense_is_none_of_this_machine(
    gateway: HttpGateway, open_gateway: HttpGateway, host: str
) -> None:
    said = {"Host": host}
    assert open_gateway.ask("GET", "/", headers=said).status == 421
    answer = gateway.ask("POST", "/v1/allocations", request("me"), token=TOKEN, headers=said)
    assert answer.json["env_n"][0]["vnc_address"].startswith("127.0.0.1:")


def test_a_form_of_another_site_cannot_ask_for_remotes(open_gateway: HttpGateway) -> None:
    answer = open_gateway.ask(
        "POST", "/v1/allocations", request("me"), headers={"Content-Type": "text/plain"}
    )
    assert answer.status == 415
    assert list(open_gateway.front.allocator.allocations()) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 60_000, "expected JSON"),
        ([], "expected a JSON object"),
        (request(""), "client: expected a name"),
        (request("a\nb"), "client: expected a name"),
        (request("a" * 200), "client: expected a name"),
        (request("me", runtime="starcraft"), "unknown runtime 'starcraft'"),
        (request("me", runtime=7), "runtime: expected the name"),
        (request("me", handles=[]), "handles: expected a list of 1 to 1000"),
        (request("me", handles=["x"]), "handles: expected numbers as texts"),
        (request("me", handles=[1]), "handles: expected numbers as texts"),
        (request("me", handles=["1", "1"]), "stands there twice"),
        (request("me", params=[1]), "params: expected an object"),
        (request("me", params={"mode": "lockstep"}), "params.env_id: expected an id"),
        (request("me", params={"mode": "fast"}), "params.mode: expected lockstep or realtime"),
        (request("me", params={"env_id": "flashgames.Nothing-v0"}), "flashgames.Nothing-v0"),
        (request("me", params={"env_id": "test.Catch-v0"}), "is of catch, not of flashgames"),
        (
            request("me", runtime="catch", params={"mode": "lockstep", "env_id": "test.Catch-v0"}),
            "test.Catch-v0 runs in realtime only",
        ),
        (request("me", runtime="gym-core", params={"env_id": "gym-core.os:X-v0"}), "not offer"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_the_reason(
    open_gateway: HttpGateway, body: object, message: str
) -> None:
    answer = open_gateway.ask("POST", "/v1/allocations", body)
    assert answer.status == 400
    assert message in answer.json["detail"]


@pytest.mark.parametrize("names", ["a-1", [1], {"a": 1}])
def test_names_that_are_no_list_of_texts_are_refused(
    open_gateway: HttpGateway, names: object
) -> None:
    answer = open_gateway.ask("POST", "/v1/allocations/me", {"names": names})
    assert (answer.status, answer.json["detail"]) == (400, "names: expected a list of texts")


def test_what_is_too_long_unknown_or_not_allowed_gets_a_detail_too(
    open_gateway: HttpGateway,
) -> None:
    long = open_gateway.ask("POST", "/v1/allocations", request("me", note="x" * 70_000))
    assert (long.status, "detail" in long.json) == (413, True)
    assert open_gateway.ask("GET", "/v2").json == {"detail": "Not Found"}
    assert open_gateway.ask("PUT", "/v1/allocations", {}).status == 405


def test_universes_name_of_a_runtime_is_understood(open_gateway: HttpGateway) -> None:
    open_gateway.allocate("me", runtime="world-of-bits")
    assert open_gateway.leasing.status().leases[0].env_id == "wob.*"


def test_a_runtime_alone_is_enough_only_where_all_of_it_is_offered() -> None:
    with http_gateway(offers=("flashgames.NeonRace-v0", "wob.*")) as gateway:
        assert gateway.ask("POST", "/v1/allocations", request("me", runtime="wob")).status == 200
        answer = gateway.ask("POST", "/v1/allocations", request("you"))
        assert answer.status == 400
        assert "not all of flashgames are offered" in answer.json["detail"]
        params = {"env_id": "flashgames.NeonRace-v0"}
        assert gateway.ask("POST", "/v1/allocations", request("you", params=params)).status == 200


def test_answers_are_neither_kept_nor_framed_nor_run(open_gateway: HttpGateway) -> None:
    for path in ("/", "/healthz", "/metrics", "/nothing"):
        headers = open_gateway.ask("GET", path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_other_machines_are_let_in_with_tokens_and_tls_only() -> None:
    with http_gateway() as gateway:
        leasing = gateway.leasing
        with pytest.raises(ConfigError, match="whoever reaches it could lease"):
            HttpFront(leasing, OPEN, HttpConfig(host="0.0.0.0"))
        with pytest.raises(ConfigError, match="in plaintext"):
            HttpFront(leasing, two_tenants(), HttpConfig(host="0.0.0.0"))
        HttpFront(leasing, two_tenants(), HttpConfig(host="0.0.0.0", is_insecure=True))


def test_a_port_that_is_taken_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}"),
        http_gateway(config=HttpConfig(port=taken.getsockname()[1])),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"ttl_s": 0}, "ttl_s"),
        ({"port": 70_000}, "port"),
        ({"answer_wait_s": 31}, "answer_wait_s"),
        ({"forward_ports": (6000, 5900)}, "forward_ports"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        HttpConfig(**settings)  # type: ignore[arg-type]


def test_https_takes_tokens_and_certificates(tmp_path: Path) -> None:
    certs.init(tmp_path, hosts=["127.0.0.1"])
    ca = tmp_path / "ca.pem"
    tls = TlsFiles(cert=tmp_path / "server.pem", key=tmp_path / "server.key", ca=ca)
    entries = [
        Entry(tenant=Tenant(name="anna"), token_sha256=digest_of(TOKEN)),
        Entry(tenant=Tenant(name="cora"), certificate="raygym client"),
    ]
    tenants = Tenants(entries, takes_certificates=True)
    with http_gateway(tenants=tenants, config=HttpConfig(tls=tls)) as gateway:
        trusting = ssl.create_default_context(cafile=ca)

        def status(context: ssl.SSLContext, token: str = "") -> int:
            said = {"Authorization": f"Bearer {token}"} if token else {}
            url = f"https://127.0.0.1:{gateway.port}/v1/allocations/me"
            asked = urllib.request.Request(url, headers=said)
            try:
                with urllib.request.urlopen(asked, context=context, timeout=20) as answer:
                    assert json.load(answer)["env_n"] == []
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert status(trusting) == 401
        assert status(trusting, TOKEN) == 200
        trusting.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        assert status(trusting) == 200
