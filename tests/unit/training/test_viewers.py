from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.core import Endpoint, Remote, Secret
from raygym.training.viewers import Viewers
from raygym.wire.vnc_auth import obfuscate


def remote(name: str = "r-1", *, port: int = 5900, password: str | None = "secret78") -> Remote:
    return Remote(
        id=name,
        runtime="flashgames",
        vnc=Endpoint(host="127.0.0.1", port=port),
        rewarder=None,
        password=None if password is None else Secret(password),
    )


@pytest.fixture
def make() -> Iterator[Callable[..., Viewers]]:
    made: list[Viewers] = []

    def make_viewers(**environment: str) -> Viewers:
        made.append(Viewers(environment))
        return made[-1]

    yield make_viewers
    for viewers in made:
        viewers.close()
        assert not viewers._directory.exists()


def password_file(hint: str) -> Path:
    words = hint.split()
    return Path(words[words.index("-passwd") + 1])


def test_without_a_display_the_command_is_told_and_the_password_is_not(make):
    hint = make().show(2, remote())
    assert hint.startswith("worker 2: look in with: vncviewer -Shared -ViewOnly -passwd ")
    assert "127.0.0.1::5900" in hint
    assert "no DISPLAY" in hint
    assert "secret78" not in hint
    path = password_file(hint)
    assert path.read_bytes() == obfuscate("secret78")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_unix_socket_is_named_by_its_path(make):
    local = Remote(
        id="r-2",
        runtime="flashgames",
        vnc=Endpoint(path="/tmp/r/vnc.sock"),
        rewarder=None,
        password=None,
    )
    hint = make().show(0, local)
    assert "vncviewer -Shared -ViewOnly /tmp/r/vnc.sock" in hint


def test_a_remote_is_told_of_once_and_its_replacement_again(make):
    viewers = make()
    assert viewers.show(0, remote("r-1"))
    assert viewers.show(0, remote("r-1")) is None
    assert viewers.show(0, remote("r-9"))


def test_a_remote_without_a_screen_cannot_be_shown(make):
    bare = Remote(
        id="r-3",
        runtime="",
        vnc=None,
        rewarder=Endpoint(host="a", port=1),
        password=None,
    )
    assert make().show(0, bare) is None


def test_with_a_display_but_no_viewer_the_package_is_named(make, tmp_path: Path):
    hint = make(DISPLAY=":1", PATH=str(tmp_path)).show(0, remote())
    assert "apt-get install tigervnc-viewer" in hint


def test_with_a_display_a_viewer_runs_until_the_remote_is_replaced_or_the_run_ends(
    make, tmp_path: Path
):
    program = tmp_path / "vncviewer"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    viewers = make(DISPLAY=":1", PATH=f"{tmp_path}:/usr/bin:/bin")
    viewers.show(0, remote("r-1"))
    first = viewers._viewers[0]
    assert first.poll() is None
    viewers.show(0, remote("r-9"))
    assert first.poll() is not None
    second = viewers._viewers[0]
    viewers.close()
    assert second.poll() is not None
