from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raygym.core import Endpoint
from raygym.errors import RemoteFailedToStart
from raygym.gateway.forwards import Forward, watch

HOST = "127.0.0.1"
TIMEOUT_S = 60


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what came, and ends when told so."""
    with contextlib.suppress(OSError):
        while (data := await reader.read(1 << 16)) and data != b"end":
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def forwarded(tmp_path: Path) -> AsyncIterator[Forward]:
    """Gives a port in front of a unix socket that echoes."""
    path = tmp_path / "echo.sock"
    server = await asyncio.start_unix_server(echo, path)
    forward = Forward(Endpoint(path=str(path)), host=HOST)
    await forward.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield forward
    finally:
        await forward.close()
        server.close()


async def count_of(forward: Forward, wanted: int) -> None:
    while forward.connections != wanted:
        await asyncio.sleep(0.005)


def test_bytes_go_both_ways_whole_and_in_order(tmp_path: Path) -> None:
    async def play() -> None:
        async with forwarded(tmp_path) as forward:
            reader, writer = await asyncio.open_connection(HOST, forward.port)
            data = bytes(range(256)) * 8000
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            assert (forward.connections, forward.opened) == (1, 1)
            assert forward.sent_bytes == forward.received_bytes == len(data)
            writer.close()
            await count_of(forward, 0)
            assert forward.opened == 1

    asyncio.run(play())


def test_the_end_at_the_far_side_ends_the_connection(tmp_path: Path) -> None:
    async def play() -> None:
        async with forwarded(tmp_path) as forward:
            reader, writer = await asyncio.open_connection(HOST, forward.port)
            writer.write(b"end")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(play())


def test_several_connections_do_not_mix(tmp_path: Path) -> None:
    async def talk(forward: Forward, number: int) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, forward.port)
        writer.write(b"%d" % number * 1000)
        answer = await reader.readexactly(1000)
        writer.close()
        return answer

    async def play() -> None:
        async with forwarded(tmp_path) as forward:
            answers = await asyncio.gather(*[talk(forward, n) for n in range(8)])
            assert answers == [b"%d" % n * 1000 for n in range(8)]

    asyncio.run(play())


def test_closing_ends_connections_and_frees_the_port(tmp_path: Path) -> None:
    async def play() -> None:
        async with forwarded(tmp_path) as forward:
            reader, writer = await asyncio.open_connection(HOST, forward.port)
            await count_of(forward, 1)
            await forward.close()
            await forward.close()
            assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, forward.port)

    asyncio.run(play())


def test_a_remote_that_does_not_listen_closes_the_connection(tmp_path: Path) -> None:
    async def play() -> None:
        forward = Forward(Endpoint(path=str(tmp_path / "nobody.sock")), host=HOST)
        await forward.start()
        reader, writer = await asyncio.open_connection(HOST, forward.port)
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b""
            await count_of(forward, 0)
        writer.close()
        await forward.close()

    asyncio.run(play())


def test_a_peer_that_vanishes_is_looked_for_by_the_kernel() -> None:
    with socket.create_server((HOST, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        watch(theirs)
        for level, name in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ):
            assert theirs.getsockopt(level, name) > 0 == ours.getsockopt(level, name)


def test_who_is_cancelled_while_the_port_opens_leaves_none_open() -> None:
    async def play() -> None:
        with socket.create_server((HOST, 0)) as spare:
            port = spare.getsockname()[1]
        for rounds in range(8):
            forward = Forward(Endpoint(host=HOST, port=1), host=HOST, ports=[port])
            starting = asyncio.create_task(forward.start())
            for _ in range(rounds):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await forward.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HOST, port)

    asyncio.run(play())


def test_a_port_of_the_range_is_taken_and_none_left_is_said() -> None:
    async def play() -> None:
        with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as spare:
            busy, free = taken.getsockname()[1], spare.getsockname()[1]
            spare.close()
            endpoint = Endpoint(host=HOST, port=1)
            forward = Forward(endpoint, host=HOST, ports=[busy, free])
            assert await forward.start() == free
            with pytest.raises(RemoteFailedToStart, match=f"{busy} to {free}"):
                await Forward(endpoint, host=HOST, ports=[busy, free]).start()
            await forward.close()

    asyncio.run(play())
