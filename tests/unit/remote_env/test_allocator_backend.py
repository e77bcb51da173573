from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raygym import certs
from raygym.config import TlsFiles
from raygym.core import Endpoint
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.gateway.http_front import HttpConfig
from raygym.remote_env.allocator_address import parse_allocator
from raygym.remote_env.allocator_backend import AllocatorBackend
from tests.compliance.backend import BackendCompliance
from tests.support.http_gateway import TOKEN, http_gateway, two_tenants
from tests.support.scripted_allocator import (
    Asked,
    Reply,
    ScriptedAllocator,
    entry,
    envs,
    scripted_allocator,
)


class TestAllocatorBackendWithAGateway(BackendCompliance):
    @pytest.fixture
    def backend(self) -> Iterator[AllocatorBackend]:  # type: ignore[override]
        with http_gateway(tenants=two_tenants()) as gateway:
            backend = AllocatorBackend(parse_allocator(gateway.url(TOKEN)))
            yield backend
            backend.close()
            assert gateway.leasing.status().used == 0


Backends = Callable[..., tuple[AllocatorBackend, ScriptedAllocator]]


@pytest.fixture
def against() -> Iterator[Backends]:
    """Gives a function that makes a backend of an allocator that answers so."""
    contexts: list[Any] = []
    backends: list[AllocatorBackend] = []

    def make(
        answer: Callable[[Asked], Reply], *, token: str = "", query: str = "", **more: Any
    ) -> tuple[AllocatorBackend, ScriptedAllocator]:
        context = scripted_allocator(answer)
        allocator = context.__enter__()
        contexts.append(context)
        backends.append(AllocatorBackend(allocator.address(token, query), **more))
        return backends[-1], allocator

    yield make
    for backend in backends:
        backend.close()
    for context in contexts:
        context.__exit__(None, None, None)


def start(backend: AllocatorBackend, client_id: str = "me") -> Any:
    return backend.start("wob", client_id=client_id)


def test_it_asks_as_universes_clients_do(against: Backends) -> None:
    backend, allocator = against(
        lambda _: envs(entry()),
        token="secret",
        query="?cpu=3.9&address=pod",
        env_id="wob.mini.ClickTest-v0",
    )
    remote = start(backend)
    assert remote.id == "a-1"
    assert (remote.vnc, remote.rewarder) == (
        Endpoint(host="127.0.0.1", port=5900),
        Endpoint(host="127.0.0.1", port=15900),
    )
    assert remote.password.reveal() == "openai"
    (asked,) = allocator.asked
    assert (asked.method, asked.path) == ("POST", "/v1/allocations")
    assert asked.authorization == "Basic " + base64.b64encode(b"secret:").decode()
    assert asked.body == {
        "client": "me",
        "runtime": "world-of-bits",
        "params": {"mode": "realtime", "env_id": "wob.mini.ClickTest-v0", "cpu": 3.9},
        "handles": ["0"],
        "initial": True,
        "placement": "pod",
    }


def test_it_polls_while_the_remote_is_pending(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        is_third = len(allocator.asked) == 3
        return envs(entry(status="allocated" if is_third else "booting"))

    backend, allocator = against(answer)
    start(backend)
    assert [a.path for a in allocator.asked[1:]] == ["/v1/allocations/me"] * 2
    assert allocator.asked[1].body == {"names": ["a-1"]}


def test_what_has_gone_missing_is_asked_for_again(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        is_create = asked.path == "/v1/allocations"
        return envs(entry(f"a-{count()}", status="pending")) if is_create else envs()

    def count() -> int:
        return sum(a.path == "/v1/allocations" for a in allocator.asked)

    backend, allocator = against(answer)
    with pytest.raises(RemoteFailedToStart, match="lost 5 remotes, one after the other"):
        start(backend)
    assert count() == 5


def test_a_refusal_is_final_and_says_what_the_allocator_said(against: Backends) -> None:
    backend, allocator = against(lambda _: (402, {"detail": "no credit"}))
    with pytest.raises(RemoteFailedToStart, match="no credit"):
        start(backend)
    assert len(allocator.asked) == 1


def test_a_refusal_while_it_waits_gives_the_place_up(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/allocations":
            return envs(entry(status="pending"))
        return (429, {"detail": "too full"}) if asked.method == "POST" else envs()

    backend, allocator = against(answer)
    with pytest.raises(RemoteFailedToStart, match="too full"):
        start(backend)
    assert allocator.asked[-1].method == "DELETE"


def test_anything_else_is_tried_again_until_the_time_is_up(against: Backends) -> None:
    for body in (b"<html>", {"no": "detail"}, [1], b""):
        backend, allocator = against(lambda _, body=body: (500, body), start_timeout_s=0.05)
        with pytest.raises(RemoteFailedToStart, match="no answer to POST /v1/allocations within"):
            start(backend)
        assert allocator.asked


def test_an_answer_of_another_server_is_named(against: Backends) -> None:
    backend, _ = against(lambda _: (200, {"hello": 1}), start_timeout_s=0.05)
    with pytest.raises(RemoteFailedToStart, match="has no env_n"):
        start(backend)


def test_nobody_there_is_said_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    backend = AllocatorBackend(parse_allocator(f"http://127.0.0.1:{port}"), start_timeout_s=0.1)
    with pytest.raises(RemoteFailedToStart, match="Connection refused"):
        start(backend)
    backend.close()


def test_waiting_too_long_says_what_the_allocator_says_and_gives_the_place_up(
    against: Backends,
) -> None:
    backend, allocator = against(
        lambda _: envs(entry(status="pending", detail="number 3 of 5 in the queue")),
        start_timeout_s=0.15,
    )
    with pytest.raises(RemoteFailedToStart, match=r"within 0\.15 s; it says: number 3 of 5"):
        start(backend)
    assert allocator.asked[-1].method == "DELETE"
    assert allocator.asked[-1].path == "/v1/allocations/me?name=a-1&whole=0"
    assert list(backend.list()) == []


def test_the_reason_is_heard_from_a_gateway_that_answers_later_than_the_time_is_up() -> None:
    config = HttpConfig(answer_wait_s=0.3)
    with http_gateway(config=config, slots=1) as gateway:
        gateway.allocate("first")
        backend = AllocatorBackend(parse_allocator(gateway.url()), start_timeout_s=0.1)
        with pytest.raises(RemoteFailedToStart, match="number 1 of 1 in the queue; 1 of 1 slots"):
            start(backend)
        assert gateway.leasing.status().waiting == []
        backend.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vnc_address": None}, "no vnc_address that can be dialled"),
        ({"rewarder_address": "host"}, "no rewarder_address"),
        ({"vnc_address": "host:70000"}, "no vnc_address"),
        ({"vnc_address": "a:b:5900"}, "no vnc_address"),
        ({"rewarder_password": "other"}, "two passwords"),
    ],
)
def test_an_allocation_that_cannot_be_used_is_given_back(
    against: Backends, wrong: dict[str, Any], message: str
) -> None:
    backend, allocator = against(lambda _: envs(entry(**wrong)))
    with pytest.raises(RemoteFailedToStart, match=message):
        start(backend)
    assert allocator.asked[-1].method == "DELETE"


def test_ipv6_is_dialled_without_its_brackets(against: Backends) -> None:
    backend, _ = against(lambda _: envs(entry(vnc_address="[::1]:5900")))
    assert start(backend).vnc == Endpoint(host="::1", port=5900)


def test_lock_step_dials_the_port_of_grpc(against: Backends) -> None:
    backend, allocator = against(
        lambda _: envs(entry(rpc_address="127.0.0.1:50051", rpc_password="token")),
        mode="lockstep",
    )
    remote = start(backend)
    assert (remote.vnc, remote.rewarder) == (None, None)
    assert remote.rpc == Endpoint(host="127.0.0.1", port=50051)
    assert remote.password.reveal() == "token"
    assert allocator.asked[0].body["params"] == {"mode": "lockstep"}


def test_an_allocator_without_lock_step_is_named(against: Backends) -> None:
    backend, _ = against(lambda _: envs(entry()), mode="lockstep")
    with pytest.raises(RemoteFailedToStart, match="does it know lock-step"):
        start(backend)


def test_two_remotes_of_one_client_have_handles_of_their_own(against: Backends) -> None:
    backend, allocator = against(lambda _: envs(entry(f"a-{len(allocator.asked)}")))
    first = start(backend)
    start(backend)
    start(backend, "you")
    assert [a.body["handles"] for a in allocator.asked] == [["0"], ["1"], ["0"]]
    assert [a.body["initial"] for a in allocator.asked] == [True, False, False]
    backend.remove(first.id)
    start(backend)
    assert allocator.asked[-1].body["handles"] == ["0"]


def test_a_whole_remote_is_told_from_a_broken_one(against: Backends) -> None:
    backend, allocator = against(lambda _: envs(entry(f"a-{len(allocator.asked)}")))
    whole, broken = start(backend), start(backend)
    backend.release(whole.id)
    backend.remove(broken.id)
    assert [a.path.partition("?")[2] for a in allocator.asked[2:]] == [
        "name=a-1&whole=1",
        "name=a-2&whole=0",
    ]


def test_a_name_of_a_client_is_no_part_of_the_route(against: Backends) -> None:
    backend, allocator = against(lambda _: envs(entry()))
    start(backend, "a/b c?d")
    backend.refresh()
    assert allocator.asked[-1].path == "/v1/allocations/a%2Fb%20c%3Fd"


def test_what_the_allocator_has_no_longer_is_no_longer_held(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/allocations":
            return envs(entry(f"a-{len(allocator.asked)}"))
        return envs(entry("a-2"))

    backend, allocator = against(answer)
    lost, held = start(backend), start(backend)
    backend.refresh()
    assert (backend.holds(lost.id), backend.holds(held.id)) == (False, True)
    assert [remote.id for remote in backend.list()] == [held.id]


def test_an_allocator_that_is_away_for_a_while_costs_nothing(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        return envs(entry(), ttl_s=0.03) if asked.path == "/v1/allocations" else (500, b"")

    backend, _ = against(answer)
    remote = start(backend)
    backend.refresh()
    assert backend.holds(remote.id)


def test_a_refused_refresh_means_that_all_is_lost(against: Backends) -> None:
    def answer(asked: Asked) -> Reply:
        return envs(entry()) if asked.path == "/v1/allocations" else (401, {"detail": "who?"})

    backend, _ = against(answer)
    remote = start(backend)
    backend.refresh()
    assert not backend.holds(remote.id)


def test_it_refreshes_by_itself_as_often_as_the_allocator_wants(against: Backends) -> None:
    refreshed = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/allocations/me":
            refreshed.set()
        return envs(entry(), ttl_s=0.06)

    backend, _ = against(answer)
    start(backend)
    assert refreshed.wait(20)


def test_closing_ends_a_start_that_waits(against: Backends) -> None:
    asked_once = threading.Event()
    errors: list[Exception] = []

    def answer(asked: Asked) -> Reply:
        asked_once.set()
        return envs(entry(status="pending"))

    backend, allocator = against(answer)

    def wait() -> None:
        try:
            start(backend)
        except RemoteFailedToStart as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked_once.wait(20)
    backend.close()
    thread.join(20)
    assert "its backend is closed" in str(errors[0])
    assert allocator.asked[-1].method == "DELETE"
    with pytest.raises(RemoteFailedToStart, match="its backend is closed"):
        start(backend)


def test_closing_gives_everything_back_side_by_side(against: Backends) -> None:
    all_asked = threading.Barrier(3, timeout=20)

    def answer(asked: Asked) -> Reply:
        if asked.method == "DELETE":
            all_asked.wait()
            return envs()
        return envs(entry(f"a-{len(allocator.asked)}"))

    backend, allocator = against(answer)
    for number in range(3):
        start(backend, f"me-{number}")
    backend.close()
    backend.close()
    assert list(backend.list()) == []
    deleted = [asked.path for asked in allocator.asked if asked.method == "DELETE"]
    assert sorted(deleted) == [f"/v1/allocations/me-{n}?name=a-{n + 1}&whole=1" for n in range(3)]


def test_a_client_that_stops_refreshing_loses_its_remote_and_hears_of_it() -> None:
    with http_gateway(config=HttpConfig(ttl_s=30)) as gateway:
        backend = AllocatorBackend(parse_allocator(gateway.url()))
        remote = start(backend)
        backend.refresh()
        assert backend.holds(remote.id)
        gateway.clock.now_s += 30
        gateway.sweep()
        backend.refresh()
        assert not backend.holds(remote.id)
        backend.close()


def test_https_is_trusted_by_an_authority_that_was_given(tmp_path: Path) -> None:
    certs.init(tmp_path)
    tls = TlsFiles(cert=tmp_path / "server.pem", key=tmp_path / "server.key")
    trust = TlsFiles(ca=tmp_path / "ca.pem")
    with http_gateway(tenants=two_tenants(), config=HttpConfig(tls=tls)) as gateway:
        address = parse_allocator(f"https://{TOKEN}@127.0.0.1:{gateway.port}")
        backend = AllocatorBackend(replace(address, tls=trust))
        assert start(backend).vnc
        backend.close()
        stranger = AllocatorBackend(address)
        with pytest.raises(RemoteFailedToStart, match="its certificate is not trusted"):
            start(stranger)
        stranger.close()
    with pytest.raises(ConfigError, match="tls: "):
        AllocatorBackend(replace(address, tls=TlsFiles(ca=tmp_path / "none.pem")))


def test_a_token_in_plaintext_to_another_machine_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for text in ("http://a", "https://secret@a", "http://secret@127.0.0.1", "http://secret@a:8"):
        AllocatorBackend(parse_allocator(text)).close()
    assert caplog.messages == [
        "allocator.plaintext address=http://a:8: use https, or a tunnel",
    ]


def test_the_same_client_finds_its_remote_again_in_another_process() -> None:
    with http_gateway() as gateway:
        killed = AllocatorBackend(parse_allocator(gateway.url()))
        again = AllocatorBackend(parse_allocator(gateway.url()))
        assert start(killed).id == start(again).id
        again.close()
        killed.close()
