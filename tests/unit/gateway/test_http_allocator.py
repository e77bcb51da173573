from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from raygym.errors import ConfigError, MissingDependency, RemoteFailedToStart
from raygym.gateway.http_front import HttpConfig
from tests.support.http_gateway import (
    AT_ONCE,
    OTHER_TOKEN,
    TOKEN,
    HttpGateway,
    ListeningBackend,
    http_gateway,
    request,
    two_tenants,
    wait_for,
)

ME = "/v1/allocations/me"


@pytest.fixture
def backend() -> ListeningBackend:
    return ListeningBackend()


@pytest.fixture
def gateway(backend: ListeningBackend) -> Iterator[HttpGateway]:
    with http_gateway(backend) as gateway:
        yield gateway


def refresh(gateway: HttpGateway, *names: str, token: str = "") -> list[dict[str, Any]]:
    answer = gateway.ask("POST", ME, {"names": list(names)}, token=token)
    assert answer.status == 200, answer.text
    return list(answer.json["env_n"])


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_an_allocation_has_what_universes_clients_read(gateway: HttpGateway) -> None:
    answer = gateway.ask("POST", "/v1/allocations", request("me", "0", "1"))
    assert answer.status == 200
    assert answer.json["info"]["n"] == [{"new": True}, {"new": True}]
    first, second = answer.json["env_n"]
    assert [first["handle"], second["handle"]] == ["0", "1"]
    assert first["name"] != second["name"]
    assert first["status"] == "allocated"
    assert first["vnc_password"] == first["rewarder_password"] == "open-sesame"
    assert first["vnc_recorder_address"] is first["rewarder_recorder_address"] is None
    for kind in ("vnc_address", "rewarder_address"):
        with dial(first[kind]) as connection:
            assert connection.getpeername()[0] == "127.0.0.1"
    assert len({e[k] for e in (first, second) for k in ("vnc_address", "rewarder_address")}) == 4


def test_the_same_client_gets_the_same_allocation_again(gateway: HttpGateway) -> None:
    (first,) = gateway.allocate("me")
    answer = gateway.ask("POST", "/v1/allocations", request("me", "0", "1"))
    assert answer.json["info"]["n"] == [{"new": False}, {"new": True}]
    assert answer.json["env_n"][0] == first


def test_each_handle_has_a_lease_of_its_own(
    gateway: HttpGateway, backend: ListeningBackend
) -> None:
    gateway.allocate("me", "0", "3")
    assert sorted(backend.clients) == ["anybody.me", "anybody.me#3"]


def test_an_allocation_is_pending_while_its_remote_starts(backend: ListeningBackend) -> None:
    backend.gate.clear()
    with http_gateway(backend, config=AT_ONCE) as gateway:
        (entry,) = gateway.allocate("me")
        assert entry["status"] == "pending"
        assert entry["vnc_address"] is entry["vnc_password"] is None
        backend.gate.set()
        wait_for(lambda: refresh(gateway, entry["name"])[0]["status"] == "allocated")


def test_who_waits_is_told_its_place_in_the_queue(backend: ListeningBackend) -> None:
    with http_gateway(backend, slots=1, config=AT_ONCE) as gateway:
        (held,) = gateway.allocate("first")
        (waiting,) = gateway.allocate("me")
        assert waiting["status"] == "pending"
        assert waiting["detail"] == "number 1 of 1 in the queue; 1 of 1 slots are in use"
        gateway.ask("DELETE", f"/v1/allocations/first?name={held['name']}")
        wait_for(lambda: refresh(gateway, waiting["name"])[0]["status"] == "allocated")


def test_those_who_wait_are_served_in_the_order_in_which_they_came(
    backend: ListeningBackend,
) -> None:
    names = [f"c-{number}" for number in range(12)]
    with http_gateway(backend, slots=1, config=AT_ONCE) as gateway:
        for name in names:
            gateway.allocate(name)
        for served, name in enumerate(names, 1):
            wait_for(lambda served=served: len(backend.clients) == served)
            gateway.ask("DELETE", f"/v1/allocations/{name}")
        assert backend.clients == [f"anybody.{name}" for name in names]
        assert gateway.leasing.status().used == 0


def test_a_client_that_is_not_allowed_more_is_told_so(backend: ListeningBackend) -> None:
    with http_gateway(backend, tenants=two_tenants(quota=1), config=AT_ONCE) as gateway:
        gateway.allocate("first", token=TOKEN)
        (waiting,) = gateway.allocate("me", token=TOKEN)
        assert waiting["detail"].endswith("and your quota is used up")


def test_waiting_too_long_is_final_and_says_why(backend: ListeningBackend) -> None:
    with http_gateway(backend, slots=1, queue_timeout_s=0.0) as gateway:
        gateway.allocate("first")
        (entry,) = gateway.allocate("me")
        answer = gateway.ask("POST", ME, {"names": [entry["name"]]})
        assert answer.status == 429
        assert "none of 1 slots came free" in answer.json["detail"]
        assert refresh(gateway, entry["name"]) == []


def test_a_refresh_returns_what_is_there_and_only_the_clients_own(gateway: HttpGateway) -> None:
    (mine,) = gateway.allocate("me")
    (yours,) = gateway.allocate("you")
    assert [e["name"] for e in refresh(gateway, mine["name"], yours["name"], "a-0")] == [
        mine["name"]
    ]
    assert [e["name"] for e in gateway.ask("POST", ME, {}).json["env_n"]] == [mine["name"]]
    assert [e["name"] for e in gateway.ask("GET", ME).json["env_n"]] == [mine["name"]]


def test_tenants_with_the_same_client_do_not_meet(backend: ListeningBackend) -> None:
    with http_gateway(backend, tenants=two_tenants()) as gateway:
        (annas,) = gateway.allocate("me", token=TOKEN)
        (berts,) = gateway.allocate("me", token=OTHER_TOKEN)
        assert annas["name"] != berts["name"]
        assert refresh(gateway, annas["name"], token=OTHER_TOKEN) == []
        gateway.ask("DELETE", ME, token=OTHER_TOKEN)
        assert len(refresh(gateway, annas["name"], token=TOKEN)) == 1


def test_deleting_gives_all_of_a_clients_remotes_back(
    gateway: HttpGateway, backend: ListeningBackend
) -> None:
    entries = gateway.allocate("me", "0", "1")
    gateway.allocate("you")
    answer = gateway.ask("DELETE", ME)
    assert [e["name"] for e in answer.json["env_n"]] == [e["name"] for e in entries]
    assert len(backend.list()) == 1
    for entry in entries:
        with pytest.raises(ConnectionRefusedError):
            dial(entry["vnc_address"])


def test_one_of_several_can_be_given_back(gateway: HttpGateway) -> None:
    first, second = gateway.allocate("me", "0", "1")
    gateway.ask("DELETE", f"{ME}?name={first['name']}&whole=0")
    assert [e["name"] for e in refresh(gateway)] == []
    assert [e["name"] for e in gateway.ask("GET", ME).json["env_n"]] == [second["name"]]


def test_giving_back_a_pending_one_leaves_the_queue(backend: ListeningBackend) -> None:
    with http_gateway(backend, slots=1, config=AT_ONCE) as gateway:
        gateway.allocate("first")
        gateway.allocate("me")
        gateway.ask("DELETE", ME)
        assert gateway.leasing.status().waiting == []


def test_an_allocation_that_nobody_refreshes_or_dials_expires(
    gateway: HttpGateway, backend: ListeningBackend
) -> None:
    (entry,) = gateway.allocate("me")
    gateway.clock.now_s += 59
    gateway.sweep()
    assert len(backend.list()) == 1
    gateway.clock.now_s += 1
    gateway.sweep()
    assert list(backend.list()) == []
    assert refresh(gateway, entry["name"]) == []
    assert gateway.leasing.status().used == 0


def test_a_refreshed_allocation_lives_on(gateway: HttpGateway) -> None:
    (entry,) = gateway.allocate("me")
    for _ in range(5):
        gateway.clock.now_s += 59
        assert len(refresh(gateway, entry["name"])) == 1
        gateway.sweep()


def test_an_open_connection_is_a_sign_of_life_and_its_end_is_none(gateway: HttpGateway) -> None:
    (entry,) = gateway.allocate("me")
    allocator = gateway.front.allocator
    with closing(dial(entry["vnc_address"])) as connection:
        wait_for(lambda: allocator.allocations()[0].connections == 1)
        for _ in range(3):
            gateway.clock.now_s += 600
            gateway.sweep()
            assert len(allocator.allocations()) == 1
        connection.close()
        wait_for(lambda: allocator.allocations()[0].connections == 0)
    gateway.clock.now_s += 60
    gateway.sweep()
    assert list(allocator.allocations()) == []


def test_a_pending_allocation_that_nobody_polls_leaves_the_queue(backend: ListeningBackend) -> None:
    with http_gateway(backend, slots=1, config=AT_ONCE) as gateway:
        (held,) = gateway.allocate("first")
        gateway.allocate("me")
        gateway.clock.now_s += 40
        gateway.ask("POST", "/v1/allocations/first", {"names": [held["name"]]})
        gateway.clock.now_s += 30
        gateway.sweep()
        assert gateway.leasing.status().waiting == []
        assert [a.name for a in gateway.front.allocator.allocations()] == [held["name"]]


def test_a_lost_remote_ends_its_allocation(gateway: HttpGateway, backend: ListeningBackend) -> None:
    (entry,) = gateway.allocate("me")
    backend.remove(backend.list()[0].id)
    gateway.loop.run(gateway.leasing.sweep())
    gateway.sweep()
    assert refresh(gateway, entry["name"]) == []
    assert gateway.front.allocator.counts.lost == 1
    with pytest.raises(ConnectionRefusedError):
        dial(entry["vnc_address"])


def test_a_remote_that_does_not_start_is_asked_for_again_until_it_is_hopeless(
    gateway: HttpGateway, backend: ListeningBackend
) -> None:
    backend.failures = [RemoteFailedToStart(f"no display {i}") for i in range(3)]
    answers = [gateway.ask("POST", "/v1/allocations", request("me")) for _ in range(3)]
    names = [answer.json["env_n"][0]["name"] for answer in answers]
    assert refresh(gateway, *names[:2]) == []
    final = gateway.ask("POST", ME, {"names": names})
    assert (final.status, final.json["detail"]) == (503, "no display 2")
    assert gateway.allocate("me")[0]["status"] == "allocated"


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("no such thing"), 400), (MissingDependency("no Xvnc"), 503)],
)
def test_what_another_try_would_not_help_is_final_at_once(
    gateway: HttpGateway, backend: ListeningBackend, error: Exception, status: int
) -> None:
    backend.failures = [error]
    (entry,) = gateway.allocate("me")
    assert (entry["status"], entry["vnc_address"]) == ("failed", None)
    answer = gateway.ask("POST", ME, {"names": [entry["name"]]})
    assert (answer.status, answer.json["detail"]) == (status, str(error))


def test_a_client_holds_remotes_of_one_runtime_at_a_time(gateway: HttpGateway) -> None:
    gateway.allocate("me")
    (entry,) = gateway.allocate("me", runtime="world-of-bits")
    answer = gateway.ask("POST", ME, {"names": [entry["name"]]})
    assert answer.status == 409
    assert "use another client_id" in answer.json["detail"]


def test_lock_step_has_a_port_for_grpc_alone(gateway: HttpGateway) -> None:
    params = {"mode": "lockstep", "env_id": "gym-core.CartPole-v1"}
    (entry,) = gateway.allocate("me", runtime="gym-core", params=params)
    assert (entry["vnc_address"], entry["rewarder_address"]) == (None, None)
    assert entry["rpc_password"] == "open-sesame"
    dial(entry["rpc_address"]).close()


def test_ports_come_from_the_range_that_was_given(backend: ListeningBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = HttpConfig(forward_ports=(port, port))
        with http_gateway(backend, config=config) as gateway:
            for _ in range(3):
                gateway.allocate("me")
            answer = gateway.ask("POST", ME, {"names": None})
            assert answer.status == 503
            assert f"({port} to {port}) is free" in answer.json["detail"]
            assert list(backend.list()) == []


def test_clients_are_told_the_host_by_which_they_asked_or_the_one_advertised() -> None:
    with http_gateway() as gateway:
        port = gateway.port
        answer = gateway.ask(
            "POST", "/v1/allocations", request("me"), headers={"Host": f"localhost:{port}"}
        )
        assert answer.json["env_n"][0]["vnc_address"].startswith("localhost:")
    with http_gateway(config=HttpConfig(advertise="gateway.example.org")) as gateway:
        assert gateway.allocate("me")[0]["vnc_address"].startswith("gateway.example.org:")


def test_closing_gives_everything_back(backend: ListeningBackend) -> None:
    backend.gate.clear()
    with http_gateway(backend, config=AT_ONCE) as gateway:
        gateway.allocate("me", "0", "1")
        backend.gate.set()
    assert list(backend.list()) == []
