from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from raygym.runtimes.flashgames.page_server import PageServer


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
