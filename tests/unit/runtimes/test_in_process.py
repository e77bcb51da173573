from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.runtimes.catch import ENV_ID
from raygym.runtimes.in_process import InProcessHost
from tests.support.universe_client import UniverseClient


@pytest.fixture
def host() -> Iterator[InProcessHost]:
    it = InProcessHost()
    yield it
    it.stop()


def test_a_remote_in_this_process_is_played_like_any_other(host, tmp_path: Path):
    host.start("catch", tmp_path, "hunter22")
    client = UniverseClient(tmp_path / "rewarder.sock", "hunter22")
    client.reset(ENV_ID, seed=1)
    assert client.until("v0.env.reward", done=True)["body"]["reward"] in (-1.0, 1.0)
    client.close()


def test_stopping_leaves_no_thread_and_no_socket(host, tmp_path: Path):
    before = threading.active_count()
    host.start("catch", tmp_path, "hunter22")
    assert threading.active_count() == before + 1
    host.stop()
    host.stop()
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_never_started_can_be_stopped(host):
    host.stop()


def test_an_unknown_runtime_is_named_with_those_that_are_known(host, tmp_path: Path):
    before = threading.active_count()
    with pytest.raises(RemoteFailedToStart, match=r"unknown runtime 'tetris'.*catch") as failed:
        host.start("tetris", tmp_path, "hunter22")
    assert isinstance(failed.value.__cause__, ConfigError)
    assert threading.active_count() == before


def test_a_directory_that_is_not_there_fails_the_start(host, tmp_path: Path):
    with pytest.raises(RemoteFailedToStart, match="nowhere"):
        host.start("catch", tmp_path / "nowhere", "hunter22")
