"""The gRPC side of a gateway, with remotes that are threads of this process."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from raygym.config import TlsFiles
from raygym.errors import ConfigError
from raygym.gateway.config import LeaseLimits
from raygym.gateway.pool import Wanted
from raygym.gateway.status import GatewayStatus
from raygym.gateway.tenants import Entry, Tenant, Tenants, digest_of
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.certificates import issue, make_authority
from tests.support.gateway_clients import StreamClient
from tests.support.gateway_remotes import ThreadBackend
from tests.support.gateways import GatewayThread

TOKEN = "annas-token-0123456789"
ANNA = Entry(tenant=Tenant(name="anna", quota=1), token_sha256=digest_of(TOKEN))


class Desk:
    """A gateway and its one backend."""

    def __init__(self, **options: Any) -> None:
        self.backends: list[ThreadBackend] = []
        self.gateway = GatewayThread(self._open, **options)

    def _open(self, wanted: Wanted) -> ThreadBackend:
        self.backends.append(ThreadBackend(wanted))
        return self.backends[-1]

    def until(self, is_so: Callable[[GatewayStatus], bool]) -> GatewayStatus:
        deadline_s = time.monotonic() + 20
        while not is_so(status := self.gateway.status()):
            assert time.monotonic() < deadline_s, status
            time.sleep(0.005)
        return status


@pytest.fixture
def open_desk() -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def opened(**options: Any) -> Desk:
        desks.append(Desk(**options))
        return desks[-1]

    yield opened
    for desk in desks:
        desk.gateway.close()


def talk(
    desk: Desk,
    work: Callable[[StreamClient], Coroutine[Any, Any, Any]],
    *,
    token: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    metadata: Sequence[tuple[str, str]] = (),
) -> Any:
    """Runs what one client does."""
    if token is not None:
        metadata = (("authorization", f"Bearer {token}"), *metadata)

    async def bounded() -> Any:
        address = desk.gateway.address
        channel = (
            grpc.aio.insecure_channel(address)
            if credentials is None
            else grpc.aio.secure_channel(address.replace("127.0.0.1", "localhost"), credentials)
        )
        async with asyncio.timeout(20), channel:
            return await work(StreamClient(channel, metadata=metadata))

    return asyncio.run(bounded())


async def play(client: StreamClient) -> float:
    await client.hello()
    assert (await client.make()).HasField("made")
    await client.reset(1)
    batch = await client.step(0)
    await client.close()
    return float(np.frombuffer(batch.rewards)[0])


def refusal(desk: Desk, work: Any = play, **options: Any) -> tuple[str, str]:
    """Returns the status that a client's stream ended with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        talk(desk, work, **options)
    return caught.value.code().name, caught.value.details() or ""


def test_a_client_plays_and_leaves_nothing_behind(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    assert talk(desk, play) == 1.0
    status = desk.until(lambda s: not s.used and not s.streams.open)
    assert (status.leases, status.idle, status.streams.round_trips) == ([], 1, 4)


def test_metadata_name_the_client(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    talk(desk, play, metadata=(("raygym-client-id", "steady"),))
    assert desk.backends[0].clients == ["anybody.steady"]


class TestTokens:
    def test_the_right_one_comes_in_as_its_tenant(self, open_desk: Callable[..., Desk]) -> None:
        desk = open_desk(tenants=Tenants([ANNA]))
        assert talk(desk, play, token=TOKEN) == 1.0
        assert desk.backends[0].clients[0].startswith("anna.")

    @pytest.mark.parametrize("token", ["wrong", "", " ", TOKEN[:-1]])
    def test_another_one_is_refused_and_never_said_again(
        self, open_desk: Callable[..., Desk], token: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk = open_desk(tenants=Tenants([ANNA]))
        caplog.set_level("DEBUG")
        code, details = refusal(desk, token=token)
        assert (code, desk.backends) == ("UNAUTHENTICATED", [])
        assert TOKEN[:-1] not in details + caplog.text
        assert desk.gateway.status().streams.opened == 0

    def test_none_is_refused_with_what_to_send(self, open_desk: Callable[..., Desk]) -> None:
        code, details = refusal(open_desk(tenants=Tenants([ANNA])))
        assert code == "UNAUTHENTICATED"
        assert "authorization: Bearer TOKEN" in details

    def test_one_that_was_not_asked_for_is_refused_too(
        self, open_desk: Callable[..., Desk]
    ) -> None:
        assert refusal(open_desk(), token="any-token-at-all-will-do")[0] == "UNAUTHENTICATED"

    def test_its_quota_counts(self, open_desk: Callable[..., Desk]) -> None:
        limits = LeaseLimits(slots=4, queue_timeout_s=0.0)
        desk = open_desk(tenants=Tenants([ANNA]), limits=limits)

        async def two(client: StreamClient) -> pb.Error:
            await client.hello()
            await client.make()
            metadata = (("authorization", f"Bearer {TOKEN}"),)
            async with grpc.aio.insecure_channel(desk.gateway.address) as channel:
                other = StreamClient(channel, metadata=metadata)
                await other.hello()
                return (await other.make()).error

        error = talk(desk, two, token=TOKEN)
        assert error.code == pb.Error.RESOURCE_EXHAUSTED
        assert error.is_passing
        assert "anna may have 1" in error.message


class TestCertificates:
    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, TlsFiles]:
        authority, other = make_authority(tmp_path), make_authority(tmp_path, "other")
        return {
            name: issue(signer, tmp_path, name, ca=authority.path)
            for name, signer in (("server", authority), ("lab", authority), ("stranger", other))
        }

    @staticmethod
    def credentials(files: TlsFiles, *, has_own: bool = True) -> grpc.ChannelCredentials:
        assert files.ca is not None
        assert files.cert is not None
        assert files.key is not None
        return grpc.ssl_channel_credentials(
            files.ca.read_bytes(),
            files.key.read_bytes() if has_own else None,
            files.cert.read_bytes() if has_own else None,
        )

    def test_one_of_the_authority_comes_in_by_its_name(
        self, open_desk: Callable[..., Desk], files: dict[str, TlsFiles]
    ) -> None:
        desk = open_desk(tls=files["server"], tenants=Tenants(takes_certificates=True))
        assert talk(desk, play, credentials=self.credentials(files["lab"])) == 1.0
        assert desk.backends[0].clients[0].startswith("lab.")

    @pytest.mark.parametrize("who", ["stranger", "nobody"])
    def test_none_and_one_of_another_authority_do_not(
        self, open_desk: Callable[..., Desk], files: dict[str, TlsFiles], who: str
    ) -> None:
        desk = open_desk(tls=files["server"], tenants=Tenants(takes_certificates=True))
        credentials = self.credentials(
            files["lab" if who == "nobody" else who], has_own=who != "nobody"
        )
        assert refusal(desk, credentials=credentials)[0] == "UNAVAILABLE"
        assert desk.gateway.status().streams.opened == 0

    def test_one_that_no_tenant_has_needs_a_token(
        self, open_desk: Callable[..., Desk], files: dict[str, TlsFiles]
    ) -> None:
        tenants = Tenants([ANNA], takes_certificates=True)
        desk = open_desk(tls=files["server"], tenants=tenants)
        credentials = self.credentials(files["lab"])
        code, details = refusal(desk, credentials=credentials)
        assert code == "UNAUTHENTICATED"
        assert "no token came" in details
        assert talk(desk, play, credentials=credentials, token=TOKEN) == 1.0


class TestLimits:
    def test_more_streams_than_may_be_are_refused(self, open_desk: Callable[..., Desk]) -> None:
        desk = open_desk(max_streams=1)

        async def two(client: StreamClient) -> None:
            await client.hello()
            async with grpc.aio.insecure_channel(desk.gateway.address) as channel:
                await StreamClient(channel).hello()

        code, details = refusal(desk, two)
        assert code == "RESOURCE_EXHAUSTED"
        assert "has its 1 streams" in details
        assert desk.until(lambda s: not s.streams.open).streams.refused == {code: 1}

    def test_a_message_that_is_too_long_ends_the_stream_and_frees_its_slot(
        self, open_desk: Callable[..., Desk]
    ) -> None:
        desk = open_desk(max_request_bytes=4096)

        async def shout(client: StreamClient) -> None:
            await client.hello()
            await client.make()
            await client.make("x" * 5000)

        assert refusal(desk, shout)[0] == "RESOURCE_EXHAUSTED"
        desk.until(lambda s: not s.used and not s.streams.open)

    @pytest.mark.parametrize("is_leased", [False, True])
    def test_a_client_that_asks_nothing_is_sent_away(
        self, open_desk: Callable[..., Desk], is_leased: bool
    ) -> None:
        limits = LeaseLimits(
            idle_timeout_s=0.2 if is_leased else 0.0,
            greeting_timeout_s=30.0 if is_leased else 0.05,
        )
        desk = open_desk(limits=limits)

        async def fall_silent(client: StreamClient) -> None:
            await client.hello()
            if is_leased:
                await client.make()
            assert await client.call.read() is grpc.aio.EOF
            raise await client.ended()

        code, details = refusal(desk, fall_silent)
        assert code == "DEADLINE_EXCEEDED"
        assert "nothing was asked" in details
        assert desk.until(lambda s: not s.used).idle == is_leased


class TestRemotes:
    def test_one_that_dies_between_two_requests_ends_its_stream_with_the_reason(
        self, open_desk: Callable[..., Desk]
    ) -> None:
        desk = open_desk()

        async def wait(client: StreamClient) -> None:
            await client.hello()
            await client.make()
            (remote,) = desk.backends[0].list()
            desk.backends[0].alive.clear()
            assert remote.id
            assert await client.call.read() is grpc.aio.EOF
            raise await client.ended()

        code, details = refusal(desk, wait)
        assert code == "UNAVAILABLE"
        assert "ended, or its lease was lost" in details
        status = desk.until(lambda s: not s.used)
        assert (status.remotes_lost, status.idle) == (1, 0)

    def test_one_that_dies_is_found_out_by_the_next_request_at_once(
        self, open_desk: Callable[..., Desk]
    ) -> None:
        desk = open_desk()

        async def go_on(client: StreamClient) -> None:
            await client.hello()
            await client.make()
            (remote,) = desk.backends[0].list()
            await asyncio.to_thread(desk.backends[0].kill, remote.id)
            await client.reset(1)

        code, details = refusal(desk, go_on)
        assert code == "UNAVAILABLE"
        assert "hung up" in details or "ended" in details
        assert desk.until(lambda s: not s.used).idle == 0


def test_a_port_that_is_taken_is_said(open_desk: Callable[..., Desk]) -> None:
    taken = open_desk().gateway.endpoint.port
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{taken}"):
        open_desk(port=taken)


@pytest.mark.parametrize("seed", range(2))
def test_clients_that_go_at_any_moment_and_remotes_that_die_lose_no_slot(
    open_desk: Callable[..., Desk], seed: int
) -> None:
    desk = open_desk(limits=LeaseLimits(slots=3, queue_timeout_s=20.0))
    chance = random.Random(seed)

    async def come_and_go(channel: grpc.aio.Channel, patience_s: float, steps: int) -> None:
        client = StreamClient(channel)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(patience_s):
                await client.hello()
                await client.make()
                await client.reset(1)
                for _ in range(steps):
                    await client.step(0)
                    await asyncio.sleep(0.001)
                await client.close()
        client.call.cancel()

    async def kill_some(backend: ThreadBackend) -> None:
        for _ in range(4):
            await asyncio.sleep(0.05)
            remotes = backend.list()
            if remotes:
                await asyncio.to_thread(backend.kill, chance.choice(remotes).id)

    async def work() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(desk.gateway.address, options) as channel:
            await come_and_go(channel, 10.0, 1)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(40):
                    tasks.create_task(
                        come_and_go(channel, chance.uniform(0.0, 0.6), chance.randrange(20))
                    )
                tasks.create_task(kill_some(desk.backends[0]))
            # Whatever happened, the next one is served.
            assert await play(StreamClient(channel)) == 1.0

    asyncio.run(work())
    status = desk.until(lambda s: not s.used and not s.streams.open)
    assert (status.leases, status.waiting, status.starting) == ([], [], 0)
    assert status.granted == status.given_back > 1
    assert status.idle <= 3
