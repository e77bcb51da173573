"""A fake engine, and a store that uses it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raygym
from raygym.catalog import Runtime
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.docker.store import DockerStore
from tests.support.fake_engine import FakeContainer, FakeEngine, fake_engine

RUNTIMES = {
    "flashgames": Runtime(name="flashgames", screen_px=(64, 48), image="raygym/flashgames"),
    "bare": Runtime(name="bare", screen_px=(64, 48)),
}


def listen(container: FakeContainer) -> None:
    """Does what a remote does once it listens."""
    directory = container.directory
    (directory / "password").write_text("secret\n")
    (directory / "remote.log").write_text("first line\nsecond line\n")
    said = {
        "runtime": "flashgames",
        "hostname": container.id[:12],
        "vnc": "unix:/run/raygym/vnc.sock",
        "rewarder": "unix:/run/raygym/rewarder.sock",
    }
    (directory / "ready.json").write_text(json.dumps(said))


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with fake_engine() as engine:
        engine.images.add(f"raygym/flashgames:{raygym.__version__}")
        engine.on_start = listen
        yield engine


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory whose path leaves room for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def open_store(fake: FakeEngine, state: Path) -> Iterator[Callable[..., DockerStore]]:
    stores = []

    def opened(**options) -> DockerStore:
        engine = Engine(environ={"DOCKER_HOST": fake.address}, timeout_s=10.0)
        given = {"engine": engine, "state": state, "runtimes": RUNTIMES, **options}
        stores.append(DockerStore(**given))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., DockerStore]) -> DockerStore:
    return open_store()
