from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from raygym.core import Secret
from raygym.errors import ConfigError, RemoteUnreachable
from raygym.wall import server as server_module
from raygym.wall.access import COOKIE, Access
from raygym.wall.hub import Hub
from raygym.wall.server import PAGE, WallConfig, WallServer
from raygym.wall.serving import WallThread
from raygym.wall.tiles import Picture, Publication, Row, ScreenPlace
from raygym.wall.viewing import IDLE, LOST
from raygym.wire.rfb_server import RfbServer
from tests.unit.wall.test_rfb_gate import HELLO, KEY, REQUEST

TOKEN = Secret("a-token-of-some-length")
DRIVE = Secret("driving-takes-another-one")


class FakeScreens:
    """One screen, spoken to without sockets."""

    def __init__(self) -> None:
        self.server = RfbServer(width=64, height=48, name="catch", password="secret")
        self.heard: list[object] = []
        self.is_there = True
        self.closed = 0

    async def dial(self, place: ScreenPlace) -> FakeLine:
        if not self.is_there:
            raise RemoteUnreachable(f"{place.remote_id}: gone", remote_id=place.remote_id)
        return FakeLine(self)


class FakeLine:
    password = Secret("secret")

    def __init__(self, screens: FakeScreens) -> None:
        self._screens = screens
        self._has_data = asyncio.Event()
        self._has_data.set()

    async def read(self) -> bytes:
        while True:
            if data := self._screens.server.data_to_send():
                return data
            self._has_data.clear()
            await self._has_data.wait()

    async def write(self, data: bytes) -> None:
        self._screens.heard += self._screens.server.receive_data(data)
        self._has_data.set()

    async def close(self) -> None:
        self._screens.closed += 1


class Bench:
    def __init__(self, url: str, http: aiohttp.ClientSession, screens: FakeScreens) -> None:
        self.url = url
        self.http = http
        self.screens = screens

    async def status(self, path: str, **options: Any) -> int:
        async with self.http.get(self.url + path, allow_redirects=False, **options) as answer:
            return answer.status


@asynccontextmanager
async def bench(access: Access | None = None, **options: Any) -> AsyncIterator[Bench]:
    hub, screens = Hub(), FakeScreens()
    hub.publish(
        Publication(
            run="run",
            actor="a",
            slots=[0, 1],
            rows=[Row(run="run", slot=0, has_screen=True, remote_id="r-1"), Row(run="run", slot=1)],
            pictures=[Picture(slot=0, kind="jpeg", data=b"picture")],
        )
    )
    config = WallConfig(access=access or Access("127.0.0.1"), **options)
    server = WallServer(hub, screens, config)
    await server.start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            yield Bench(server.url, http, screens)
    finally:
        await server.stop()


def run(act: Callable[[Bench], Awaitable[None]], *arguments: Any, **options: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), bench(*arguments, **options) as made:
            await act(made)

    asyncio.run(whole())


def test_the_page_comes_whole_and_asks_nobody_else():
    async def act(bench: Bench) -> None:
        async with bench.http.get(bench.url) as answer:
            text = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        for path in re.findall(r'(?:src|href)="/(page/[^"]+)"', text):
            assert await bench.status(path) == 200, path
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    run(act)


def test_no_file_of_the_page_names_another_server():
    for file in PAGE.iterdir():
        found = set(re.findall(r"https?://[^\s'\"`]+", file.read_text()))
        assert found <= {"http://www.w3.org/2000/svg"}, file.name


def test_nothing_outside_the_page_s_folder_is_served():
    async def act(bench: Bench) -> None:
        assert await bench.status("page/%2e%2e/server.py") in (403, 404)
        assert await bench.status("page/../server.py") in (403, 404)

    run(act)


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address():
    async def act(bench: Bench) -> None:
        assert await bench.status("") == 401
        assert await bench.status("about") == 401
        assert await bench.status("page/wall.js") == 401
        async with bench.http.get(
            f"{bench.url}?token={TOKEN.reveal()}", allow_redirects=False
        ) as answer:
            cookie = answer.cookies[COOKIE]
            assert (answer.status, answer.headers["Location"]) == (302, "/")
            assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
            assert TOKEN.reveal() not in cookie.value
        assert await bench.status("") == 200
        assert await bench.status("page/wall.js") == 200

    run(act, Access("127.0.0.1", token=TOKEN))


def test_a_wrong_token_opens_nothing(monkeypatch):
    monkeypatch.setattr(server_module, "_WRONG_TOKEN_S", 0.0)

    async def act(bench: Bench) -> None:
        assert await bench.status("?token=wrong") == 401
        assert await bench.status("") == 401

    run(act, Access("127.0.0.1", token=TOKEN))


@pytest.mark.parametrize("path", ["", "live", "screen?key=run/0", "about"])
@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}],
    ids=["a name of theirs", "a page of theirs"],
)
def test_pages_of_others_get_nothing_though_their_browser_is_here(path, headers):
    async def act(bench: Bench) -> None:
        assert await bench.status(path, headers=headers) == 403

    run(act)


async def next_header(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    message = await socket.receive_bytes()
    (length,) = struct.unpack_from("<I", message)
    header: dict[str, Any] = json.loads(message[4 : 4 + length])
    return header


def test_the_stream_waits_for_the_page_and_sends_what_is_in_view():
    async def act(bench: Bench) -> None:
        async with bench.http.ws_connect(bench.url + "live") as socket:
            first = await next_header(socket)
            await socket.send_json({"visible": ["run/0"], "large": None})
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.5)
            await socket.send_json({"got": True})
            second = await next_header(socket)
        assert [row["key"] for row in first["rows"]] == ["run/0", "run/1"]
        assert [picture["key"] for picture in second["pictures"]] == ["run/0"]

    run(act)


@pytest.mark.parametrize("nonsense", ["[]", "{", '{"visible": 3}'])
def test_a_page_that_talks_nonsense_is_left(nonsense):
    async def act(bench: Bench) -> None:
        async with bench.http.ws_connect(bench.url + "live") as socket:
            await socket.send_str(nonsense)
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            assert socket.closed

    run(act)


async def say(socket: aiohttp.ClientWebSocketResponse, *messages: bytes) -> None:
    """Greets and says something; returns once the screen has answered the greeting."""
    got = b""
    await socket.send_bytes(HELLO)
    while b"catch" not in got:
        got += await socket.receive_bytes()
    for message in messages:
        await socket.send_bytes(message)


async def until(claim: Callable[[], object]) -> None:
    while not claim():
        await asyncio.sleep(0.01)


def kinds(bench: Bench) -> list[str]:
    return [type(event).__name__ for event in bench.screens.heard]


def test_a_person_who_looks_cannot_press():
    async def act(bench: Bench) -> None:
        async with bench.http.ws_connect(bench.url + "screen?key=run/0") as socket:
            await say(socket, KEY, REQUEST)
            await until(lambda: "UpdateRequested" in kinds(bench))
        assert "KeyEvent" not in kinds(bench)
        await until(lambda: bench.screens.closed == 1)

    run(act, Access("127.0.0.1", take_over=DRIVE))


def test_a_person_with_the_token_drives_once_a_ticket(caplog):
    async def act(bench: Bench) -> None:
        asked = {"token": DRIVE.reveal(), "key": "run/0"}
        async with bench.http.post(bench.url + "take-over", json=asked) as answer:
            ticket = (await answer.json())["ticket"]
        where = f"{bench.url}screen?key=run/0&ticket={ticket}"
        async with bench.http.ws_connect(where) as socket:
            await say(socket, KEY)
            await until(lambda: "KeyEvent" in kinds(bench))
        assert await bench.status(f"screen?key=run/0&ticket={ticket}") == 403

    run(act, Access("127.0.0.1", take_over=DRIVE))
    assert "wall.take_over key=run/0 remote_id=r-1" in caplog.text
    assert DRIVE.reveal() not in caplog.text


def test_a_person_who_drives_and_presses_nothing_drives_no_more():
    async def act(bench: Bench) -> None:
        asked = {"token": DRIVE.reveal(), "key": "run/0"}
        async with bench.http.post(bench.url + "take-over", json=asked) as answer:
            ticket = (await answer.json())["ticket"]
        where = f"{bench.url}screen?key=run/0&ticket={ticket}"
        async with bench.http.ws_connect(where) as socket:
            await say(socket)
            message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, IDLE)

    run(act, Access("127.0.0.1", take_over=DRIVE), drive_idle_s=0.2)


@pytest.mark.parametrize(
    ("take_over", "said", "status"),
    [
        (None, {"token": "", "key": "run/0"}, 403),
        (DRIVE, {"token": "a-wrong-token-of-length", "key": "run/0"}, 403),
        (DRIVE, {"key": "run/0"}, 400),
        (DRIVE, [], 400),
    ],
    ids=["driving is off", "wrong token", "no token", "no object"],
)
def test_nobody_else_drives(monkeypatch, take_over, said, status):
    monkeypatch.setattr(server_module, "_WRONG_TOKEN_S", 0.0)

    async def act(bench: Bench) -> None:
        async with bench.http.post(bench.url + "take-over", json=said) as answer:
            assert answer.status == status
        async with bench.http.get(bench.url + "about") as answer:
            assert (await answer.json())["can_drive"] is (take_over is not None)

    run(act, Access("127.0.0.1", take_over=take_over))


def test_a_page_is_told_why_a_screen_is_not_there():
    async def act(bench: Bench) -> None:
        assert await bench.status("screen?key=run/1") == 404
        bench.screens.is_there = False
        async with bench.http.ws_connect(bench.url + "screen?key=run/0") as socket:
            message = await socket.receive()
        assert (message.data, message.extra) == (LOST, "r-1: gone")

    run(act)


def test_so_many_screens_are_looked_at_and_no_more(monkeypatch):
    monkeypatch.setattr(server_module, "MOST_SCREENS", 1)

    async def act(bench: Bench) -> None:
        async with bench.http.ws_connect(bench.url + "screen?key=run/0") as socket:
            await say(socket)
            assert await bench.status("screen?key=run/0") == 503
        await until(lambda: bench.screens.closed == 1)

    run(act)


def test_a_port_that_is_taken_is_told():
    async def act(bench: Bench) -> None:
        port = int(bench.url.rpartition(":")[2].strip("/"))
        config = WallConfig(access=Access("127.0.0.1"), port=port)
        with pytest.raises(ConfigError, match=f"--port {port}"):
            await WallServer(Hub(), FakeScreens(), config).start()

    run(act)


def test_a_wall_in_a_thread_says_what_is_wrong_and_can_be_closed_twice():
    config = WallConfig(access=Access("127.0.0.1"))
    wall = WallThread(Hub(), FakeScreens(), config)
    port = int(wall.url.rpartition(":")[2].strip("/"))
    with pytest.raises(ConfigError, match=f"--port {port}"):
        WallThread(Hub(), FakeScreens(), WallConfig(access=Access("127.0.0.1"), port=port))
    wall.close()
    wall.close()


def test_the_page_s_files_are_few_and_small():
    sizes = {file.name: file.stat().st_size for file in Path(PAGE).iterdir()}

    assert sum(sizes.values()) < 100_000, sizes
