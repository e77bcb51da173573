"""A gateway's HTTP side in this process, over remotes that listen and do nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raygym.core import Backend, Endpoint, Remote, Secret
from raygym.gateway.admission import Admission
from raygym.gateway.http_front import HttpConfig, HttpFront
from raygym.gateway.leasing import Leasing
from raygym.gateway.offers import Offers
from raygym.gateway.pool import Wanted
from raygym.gateway.tenants import Entry, Tenant, Tenants, digest_of
from raygym.remote_env.plain_backend import PlainBackend
from tests.support.loop_thread import LoopThread

TOKEN = "anna-" + "a" * 20
OTHER_TOKEN = "bert-" + "b" * 20
OPEN = Tenants(is_open=True)
AT_ONCE = HttpConfig(answer_wait_s=0)
"""Answers without waiting for remotes that are pending."""

_offers = functools.cache(Offers)


def two_tenants(quota: int | None = None) -> Tenants:
    """Returns anna, who has a quota, and bert, who has none."""
    return Tenants(
        [
            Entry(tenant=Tenant(name="anna", quota=quota), token_sha256=digest_of(TOKEN)),
            Entry(tenant=Tenant(name="bert"), token_sha256=digest_of(OTHER_TOKEN)),
        ]
    )


class Clock:
    """A time that only moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class ListeningBackend(PlainBackend):
    """Starts remotes whose ports take connections and say nothing.

    ``failures`` are raised by the next starts, one each; ``gate`` holds starts back while it is
    not set.
    """

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.removed: list[str] = []
        self.clients: list[str] = []
        self._numbers = itertools.count()
        self._sockets: dict[str, list[socket.socket]] = {}
        self._remotes: dict[str, Remote] = {}

    def start(self, runtime: str, *, client_id: str) -> Remote:
        assert self.gate.wait(20)
        if self.failures:
            raise self.failures.pop(0)
        self.clients.append(client_id)
        name = f"r-{next(self._numbers)}"
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ends = [Endpoint(host="127.0.0.1", port=s.getsockname()[1]) for s in sockets]
        self._sockets[name] = sockets
        remote = Remote(
            id=name,
            runtime=runtime,
            vnc=ends[0],
            rewarder=ends[1],
            rpc=ends[2],
            password=Secret("open-sesame"),
        )
        self._remotes[name] = remote
        return remote

    def list(self) -> Sequence[Remote]:
        return list(self._remotes.values())

    def remove(self, remote_id: str) -> None:
        self.removed.append(remote_id)
        self._remotes.pop(remote_id, None)
        for sock in self._sockets.pop(remote_id, []):
            sock.close()

    def release(self, remote_id: str) -> None:
        self.remove(remote_id)

    def holds(self, remote_id: str) -> bool:
        return remote_id in self._remotes

    def close(self) -> None:
        for name in list(self._remotes):
            self.remove(name)


@dataclass
class Answer:
    """What a gateway answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        return dict(json.loads(self.text))


@dataclass
class HttpGateway:
    """A gateway that serves."""

    port: int
    front: HttpFront
    leasing: Leasing
    loop: LoopThread
    backend: Backend
    clock: Clock = field(default_factory=Clock)

    def url(self, token: str = "", query: str = "") -> str:
        """Returns what ``remotes=`` takes."""
        return f"http://{token + '@' if token else ''}127.0.0.1:{self.port}{query}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Asks once, as Universe's clients do: the token is the user of Basic authorization."""
        said = {"Content-Type": "application/json"}
        if token:
            said["Authorization"] = "Basic " + base64.b64encode(f"{token}:".encode()).decode()
        said.update(headers or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            data = body if isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data if body is not None else None, said)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())

    def allocate(
        self, client: str = "me", *handles: str, token: str = "", **more: Any
    ) -> list[dict[str, Any]]:
        """Asks for allocations and returns their entries."""
        answer = self.ask("POST", "/v1/allocations", request(client, *handles, **more), token=token)
        assert answer.status == 200, answer.text
        return list(answer.json["env_n"])

    def sweep(self) -> None:
        """Looks after allocations once, and waits until what ended is gone."""

        async def sweep() -> None:
            await self.front.allocator.sweep()
            async with asyncio.timeout(20):
                await self.front.allocator.quiesce()

        self.loop.run(sweep())


def request(client: str, *handles: str, runtime: str = "flashgames", **more: Any) -> dict[str, Any]:
    """Returns a request as Universe's clients send it."""
    return {
        "client": client,
        "runtime": runtime,
        "params": {"tag": "0.20.28"},
        "handles": list(handles) or ["0"],
        "initial": True,
        "placement": "public",
        **more,
    }


@contextlib.contextmanager
def http_gateway(
    backend: Backend | None = None,
    *,
    tenants: Tenants = OPEN,
    config: HttpConfig | None = None,
    slots: int = 4,
    queue_timeout_s: float = 60.0,
    open_backend: Callable[[Wanted], Backend] | None = None,
    offers: tuple[str, ...] = ("*",),
    has_clock: bool = True,
) -> Iterator[HttpGateway]:
    """Serves a gateway on a free port of loopback.

    Args:
        backend: Where remotes come from; None takes a ListeningBackend.
        tenants: Who may come in.
        config: Where it listens.
        slots: Most remotes at a time.
        queue_timeout_s: Longest wait for a slot.
        open_backend: Makes backends instead.
        offers: What clients may ask for.
        has_clock: Whether time stands still until the test moves it.
    """
    used = backend or ListeningBackend()
    clock = Clock()
    loop = LoopThread()

    async def start() -> tuple[int, HttpFront]:
        leasing.start()
        front = HttpFront(leasing, tenants, config, offers=_offers(offers))
        return await front.start(), front

    keywords: dict[str, Any] = {"clock": clock} if has_clock else {}
    leasing = Leasing(
        open_backend or (lambda _: used),
        Admission(slots, **keywords),
        queue_timeout_s=queue_timeout_s,
        **keywords,
    )
    try:
        port, front = loop.run(start())
        try:
            yield HttpGateway(port, front, leasing, loop, used, clock)
        finally:
            loop.run(front.close())
    finally:
        loop.run(leasing.close())
        loop.close()


def wait_for(is_so: Callable[[], bool]) -> None:
    """Waits until something is so, for 20 s at most."""
    pause = threading.Event()
    for _ in range(4000):
        if is_so():
            return
        pause.wait(0.005)
    raise AssertionError("it never was")
