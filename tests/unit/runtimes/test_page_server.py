from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from raygym.runtimes.page_server import PageServer


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    for name, file in (("page", "play.html"), ("game", "my game.swf"), ("secret", "key")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(name)
    (tmp_path / "game" / "levels").mkdir()
    (tmp_path / "game" / "levels" / "1.xml").write_text("level")
    (tmp_path / "game" / "link").symlink_to(tmp_path / "secret" / "key")
    return {"page": tmp_path / "page", "flashgames.Game-v0": tmp_path / "game"}


@pytest.fixture
def server(folders) -> PageServer:
    return PageServer(folders)


def find(server: PageServer, path: str) -> str | None:
    file = server.find(f"/{server._token}/{path}")
    return None if file is None else file.name


def test_files_of_its_folders_are_found(server):
    assert find(server, "page/play.html") == "play.html"
    assert find(server, "page/play.html?x=1") == "play.html"
    assert find(server, "flashgames.Game-v0/my%20game.swf") == "my game.swf"
    assert find(server, "flashgames.Game-v0/levels/1.xml") == "1.xml"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "page",
        "page/",
        "page/missing.js",
        "secret/key",
        "page/../secret/key",
        "page/%2e%2e/secret/key",
        "page//etc/passwd",
        "flashgames.Game-v0/link",
        "flashgames.Game-v0/levels",
        "page/\0",
        "page/" + "x" * 5000,
    ],
)
def test_nothing_else_is_found(server, path):
    assert find(server, path) is None


def test_without_the_token_nothing_is_found(server, folders):
    other = PageServer(folders)
    assert server.find("/page/play.html") is None
    assert server.find(f"/{other._token}/page/play.html") is None
    assert server.find("/é/page/play.html") is None
    assert urlsplit(f"/{server._token}").path != urlsplit(f"/{other._token}").path


def test_a_page_opens_a_link_whose_socket_is_handed_over(folders):
    links: list[socket.socket] = []

    async def open_link() -> None:
        server = PageServer(folders, on_link=links.append)
        await server.start()
        try:
            url = server.url("link").replace("http://", "ws://")
            async with connect(url, compression=None, close_timeout=0.1) as page:
                (sock,) = links
                sock.settimeout(5)
                await page.send(b"ab")
                head = await asyncio.to_thread(sock.recv, 6, socket.MSG_WAITALL)
                assert head[:2] == bytes((0x82, 0x80 | 2))
                sock.sendall(b"\x81\x02ok")
                assert await page.recv() == "ok"
                sock.close()
        finally:
            await server.close()

    asyncio.run(open_link())


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_link_needs_the_token_and_somebody_who_wants_it(folders, is_wanted):
    links: list[socket.socket] = []

    async def open_link() -> None:
        server = PageServer(folders, on_link=links.append if is_wanted else None)
        await server.start()
        url = server.url("link").replace("http://", "ws://")
        if is_wanted:
            url = url.replace(server._token, "x" * len(server._token))
        try:
            with pytest.raises(InvalidHandshake):
                async with connect(url):
                    pass
        finally:
            await server.close()

    asyncio.run(open_link())
    assert not links


@pytest.mark.parametrize("scripts", ["", "'unsafe-eval'"])
def test_a_page_may_load_from_its_server_alone_whatever_its_scripts_may_do(folders, scripts):
    async def policy() -> str:
        server = PageServer(folders, scripts=scripts)
        await server.start()
        address = urlsplit(server.url("page/play.html"))
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {address.path} HTTP/1.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        await server.close()
        (line,) = [line for line in head.split("\r\n") if line.startswith("Content-Security")]
        return line

    rules = asyncio.run(policy()).partition(": ")[2].split("; ")
    assert rules[0] == "default-src 'none'"
    assert rules[-1] == f"script-src 'self' {scripts}".rstrip()
    assert "connect-src 'self'" in rules
    assert not any("http" in rule or "*" in rule for rule in rules)
