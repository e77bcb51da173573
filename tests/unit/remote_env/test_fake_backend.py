from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.errors import RemoteFailedToStart
from raygym.remote_env.fake_backend import FakeBackend
from tests.compliance.backend import BackendCompliance, accepts


class ListeningHost:
    """Listens on both sockets of a Remote, and says nothing."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.directory: Path | None = None
        self.sockets: list[socket.socket] = []

    def start(self, runtime: str, directory: Path, password: str) -> None:
        self.directory = directory
        if self.problem:
            raise OSError(self.problem)
        for name in ("vnc.sock", "rewarder.sock"):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(directory / name))
            sock.listen()
            self.sockets.append(sock)

    def stop(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def make() -> Iterator[Callable[..., FakeBackend]]:
    made: list[FakeBackend] = []

    def build(factory: Callable[[], ListeningHost] = ListeningHost) -> FakeBackend:
        made.append(FakeBackend(factory))
        return made[-1]

    yield build
    for backend in made:
        backend.close()


class TestFakeBackend(BackendCompliance):
    @pytest.fixture
    def backend(self, make: Callable[..., FakeBackend]) -> FakeBackend:  # type: ignore[override]
        return make()


def test_a_killed_remote_stops_listening_and_is_no_longer_listed(
    make: Callable[..., FakeBackend],
) -> None:
    backend = make()
    remote = backend.start("catch", client_id="c")
    backend.kill(remote.id)
    assert not accepts(remote.vnc)
    assert list(backend.list()) == []
    backend.remove(remote.id)


def test_killing_an_unknown_remote_is_a_mistake(make: Callable[..., FakeBackend]) -> None:
    with pytest.raises(KeyError):
        make().kill("r-nobody")


def test_a_host_that_does_not_start_leaves_no_directory(make: Callable[..., FakeBackend]) -> None:
    host = ListeningHost("no more sockets")
    with pytest.raises(RemoteFailedToStart, match="no more sockets"):
        make(lambda: host).start("catch", client_id="c")
    assert host.directory is not None
    assert not host.directory.exists()


def test_removing_a_remote_removes_its_directory(make: Callable[..., FakeBackend]) -> None:
    backend = make()
    remote = backend.start("catch", client_id="c")
    assert remote.vnc is not None
    assert remote.vnc.path is not None
    directory = Path(remote.vnc.path).parent
    assert directory.stat().st_mode & 0o077 == 0
    backend.remove(remote.id)
    assert not directory.exists()
