"""The Store that the tests of the service stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from raygym.errors import RemoteUnreachable
from raygym.remote_env.lease_file import write_lease
from tests.support.directory_store import DirectoryStore
from tests.support.node_keepers import lease_file


def create(store: DirectoryStore, remote_id: str, *, cluster: str = "default", token: int = 1):
    return store.create(
        remote_id,
        "flashgames",
        client_id="a",
        variant=("--mode", "lockstep"),
        cluster=cluster,
        lease=lease_file(100.0, token=token),
    )


def test_what_one_made_another_finds(tmp_path: Path):
    remote = create(DirectoryStore(tmp_path), "r-1")
    second = DirectoryStore(tmp_path)
    assert second.adopt("r-1") == remote
    [found] = second.survey("default")
    assert (found.remote_id, found.cluster, found.state) == ("r-1", "default", "running")
    assert (found.variant, found.first_client) == (("--mode", "lockstep"), "a")
    assert found.lease == lease_file(100.0)
    assert second.running() == second.made() == ["r-1"]


def test_a_second_create_makes_nothing_and_takes_the_newer_lease(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    assert create(store, "r-1") == create(store, "r-1", token=2)
    assert store.made() == ["r-1"]
    assert store.survey(None)[0].lease == lease_file(100.0, token=2)


def test_a_removed_one_is_gone(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    create(store, "r-1")
    store.remove("r-1")
    store.remove("r-1")
    assert store.running() == []
    assert store.made() == ["r-1"]
    assert store.log_tail("r-1") == ""
    with pytest.raises(RemoteUnreachable):
        store.adopt("r-1")
    with pytest.raises(FileNotFoundError):
        store.write_lease("r-1", lease_file(200.0))


def test_a_survey_names_one_cluster_and_lone_directories(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    create(store, "r-1")
    create(store, "r-2", cluster="other")
    (tmp_path / "r-3").mkdir()
    write_lease(tmp_path / "r-3", lease_file(50.0))
    assert [(one.remote_id, one.state) for one in store.survey("default")] == [
        ("r-1", "running"),
        ("r-3", "gone"),
    ]
    assert len(store.survey(None)) == 3
