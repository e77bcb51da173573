from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError
from raygym.view import serve_view


def remote(path: Path) -> Remote:
    return Remote(
        id="r-1",
        runtime="catch",
        vnc=Endpoint(path=str(path)),
        rewarder=None,
        password=Secret("sesame"),
    )


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"RFB 003.008\n")
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


async def _with_view(path: Path, use) -> list[str]:
    said: list[str] = []
    view = asyncio.create_task(serve_view(remote(path), say=said.append))
    try:
        async with asyncio.timeout(10):
            while len(said) < 3:
                await asyncio.sleep(0)
            port = int(re.search(r"127\.0\.0\.1::(\d+)", said[0]).group(1))
            await use(*await asyncio.open_connection("127.0.0.1", port))
    finally:
        view.cancel()
    return said


def test_a_port_on_loopback_stands_for_the_socket(tmp_path: Path) -> None:
    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"RFB 003.008\n"
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        writer.close()

    async def run() -> list[str]:
        is_over = asyncio.Event()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _echo(reader, writer)
            is_over.set()

        async with await asyncio.start_unix_server(echo, tmp_path / "vnc.sock"):
            said = await _with_view(tmp_path / "vnc.sock", use)
            await asyncio.wait_for(is_over.wait(), 10)
            return said

    said = asyncio.run(run())
    assert said[0].startswith("r-1: vncviewer 127.0.0.1::")
    assert said[1] == "password: sesame"


def test_a_screen_that_is_gone_closes_the_viewers_connection(tmp_path: Path) -> None:
    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()

    asyncio.run(_with_view(tmp_path / "vnc.sock", use))


def test_a_remote_without_a_screen_is_refused() -> None:
    blind = Remote(id="r-2", runtime="gym-core", vnc=None, rewarder=None)
    with pytest.raises(ConfigError, match="r-2 has no screen"):
        asyncio.run(serve_view(blind))


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with await asyncio.start_server(_echo, "127.0.0.1", 0) as taken:
            port = taken.sockets[0].getsockname()[1]
            await serve_view(remote(tmp_path / "x.sock"), port=port)

    with pytest.raises(ConfigError, match=r"--port \d+: cannot listen there"):
        asyncio.run(run())
