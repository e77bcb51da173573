"""Containers made, found again and removed, at an engine that runs nothing."""

from __future__ import annotations

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.config import TlsFiles
from raygym.core import Endpoint
from raygym.errors import ConfigError, RemoteFailedToStart, RemoteUnreachable
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.docker.errors import (
    ContainerDied,
    CrashLoop,
    DiskFull,
    EngineFailed,
    MissingImage,
    OutOfMemory,
    PortTaken,
)
from raygym.remote_env.docker.store import DockerStore
from raygym.remote_env.lease_file import LeaseFile, read_lease
from tests.unit.remote_env.docker.conftest import RUNTIMES, listen

LEASE = LeaseFile(token=1, client_id="worker-3", runtime="flashgames", expires_unix_s=2e9)
WAIT_S = 60.0


def create(store, remote_id="r-1", **given):
    wanted = {
        "client_id": "worker-3",
        "variant": ("--mode", "realtime"),
        "cluster": "local",
        "lease": LEASE,
        **given,
    }
    return store.create(remote_id, "flashgames", **wanted)


def test_a_remote_listens_in_its_own_private_directory(store, state: Path):
    remote = create(store)
    directory = state / "remotes" / "r-1"
    assert remote.id == "r-1"
    assert remote.runtime == "flashgames"
    assert remote.vnc == Endpoint(path=str(directory / "vnc.sock"))
    assert remote.rewarder == Endpoint(path=str(directory / "rewarder.sock"))
    assert remote.password.reveal() == "secret"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_lease_is_there_before_the_container_is(store, fake, state: Path):
    seen = []
    fake.on_start = lambda c: (seen.append(read_lease(c.directory)), listen(c))
    create(store)
    assert seen == [LEASE]


def test_a_create_that_is_sent_twice_makes_one_container(store, fake):
    first = create(store)
    newer = replace(LEASE, token=2)
    assert create(store, lease=newer) == first
    assert fake.creations == 1


def test_two_stores_that_create_the_same_remote_at_once_get_the_same(open_store, fake):
    fake.hold.clear()
    stores = [open_store(), open_store()]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(create, store) for store in stores]
        fake.hold.set()
        remotes = [job.result(WAIT_S) for job in jobs]
    assert remotes[0] == remotes[1]
    assert fake.creations == 1


def test_a_dead_container_of_the_same_name_is_replaced(store, fake):
    create(store)
    fake.find("raygym-r-1").status = "exited"
    create(store)
    assert fake.creations == 2
    assert fake.find("raygym-r-1").status == "running"


def test_a_container_of_the_same_name_that_is_somebody_elses_is_left_alone(store, fake):
    create(store)
    other = fake.find("raygym-r-1")
    other.body["Labels"] = {}
    with pytest.raises(RemoteFailedToStart, match="docker rm -f raygym-r-1"):
        store.create("r-1", "flashgames", client_id="c", variant=(), cluster="x", lease=LEASE)


def test_adopting_gives_the_same_remote_to_whoever_asks(store, open_store):
    assert open_store().adopt("r-1" if create(store) else "") == create(store)


def test_what_does_not_run_cannot_be_adopted(store, fake):
    with pytest.raises(RemoteUnreachable, match="is gone"):
        store.adopt("r-9")
    create(store)
    fake.find("raygym-r-1").status = "paused"
    with pytest.raises(RemoteUnreachable, match="is paused"):
        store.adopt("r-1")


def test_adopting_what_has_ended_says_why_it_did(store, fake):
    create(store)
    fake.end(fake.find("raygym-r-1"), 137, is_out_of_memory=True)
    with pytest.raises(RemoteUnreachable, match=r"is gone \(out of memory\)"):
        store.adopt("r-1")


def test_what_a_container_before_it_left_is_not_taken_for_its_own(open_store, fake):
    store = open_store(start_timeout_s=0.05)
    create(store)
    fake.containers.clear()
    fake.on_start = lambda container: None
    with pytest.raises(RemoteFailedToStart, match="did not listen"):
        create(store)


def test_what_does_not_listen_cannot_be_adopted(store, state: Path):
    create(store)
    (state / "remotes" / "r-1" / "ready.json").unlink()
    with pytest.raises(RemoteUnreachable, match="does not listen"):
        store.adopt("r-1")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"runtime": "other", "hostname": "HOST"}',
        '{"runtime": "flashgames", "hostname": "HOST", "vnc": "unix:/var/run/docker.sock"}',
        '{"runtime": "flashgames", "hostname": "HOST", "vnc": "unix:/run/raygym/../docker.sock"}',
        '{"runtime": "flashgames", "hostname": "HOST", "vnc": "unix:/run/raygym/.."}',
        '{"runtime": "flashgames", "hostname": "HOST", "vnc": "127.0.0.1:22"}',
    ],
)
def test_a_remote_that_leads_elsewhere_is_not_followed(store, fake, state: Path, text: str):
    create(store)
    text = text.replace("HOST", fake.find("raygym-r-1").id[:12])
    (state / "remotes" / "r-1" / "ready.json").write_text(text)
    with pytest.raises(RemoteUnreachable, match="makes no sense"):
        store.adopt("r-1")


def test_a_password_that_is_a_link_is_not_read(store, state: Path, tmp_path: Path):
    create(store)
    (tmp_path / "shadow").write_text("root")
    password = state / "remotes" / "r-1" / "password"
    password.unlink()
    password.symlink_to(tmp_path / "shadow")
    assert store.adopt("r-1").password is None


def test_removing_takes_the_container_and_its_directory(store, fake, state: Path):
    create(store)
    store.remove("r-1")
    assert fake.containers == {}
    assert list((state / "remotes").iterdir()) == []


def test_removing_what_is_not_there_does_nothing(store):
    store.remove("r-9")


def test_an_id_that_is_a_path_is_refused_everywhere(store):
    for call in (store.adopt, store.remove, store.log_tail):
        with pytest.raises(ConfigError, match="remote_id"):
            call("../other")


def test_writing_a_lease_reaches_the_directory(store, state: Path):
    create(store)
    newer = replace(LEASE, token=5, expires_unix_s=3e9)
    store.write_lease("r-1", newer)
    assert read_lease(state / "remotes" / "r-1") == newer


def test_the_lease_of_a_remote_that_is_gone_cannot_be_written(store):
    with pytest.raises(RemoteUnreachable, match="the remote has ended"):
        store.write_lease("r-1", LEASE)


def test_a_container_that_ends_before_it_listens_says_how_and_leaves_nothing(
    store, fake, state: Path
):
    def die(container):
        (container.directory / "remote.log").write_text("no display\n")
        fake.end(container, 3)

    fake.on_start = die
    with pytest.raises(ContainerDied, match="exit code 3: its screen was lost") as caught:
        create(store)
    assert caught.value.exit_code == 3
    assert caught.value.remote_id == "r-1"
    assert caught.value.log == "no display"
    assert list((state / "remotes").iterdir()) == []


def test_a_container_that_runs_out_of_memory_names_its_limit(store, fake):
    fake.on_start = lambda container: fake.end(container, 137, is_out_of_memory=True)
    with pytest.raises(OutOfMemory, match="1024 MiB"):
        create(store)


def test_after_three_deaths_in_a_row_none_is_started(store, fake):
    fake.on_start = lambda container: fake.end(container, 4)
    for _ in range(2):
        with pytest.raises(ContainerDied):
            create(store)
    with pytest.raises(CrashLoop, match="raygym images build flashgames"):
        create(store)
    with pytest.raises(CrashLoop, match="the last 3 containers"):
        create(store)
    assert fake.creations == 3


def test_a_container_that_never_listens_is_removed_at_the_deadline(open_store, fake):
    fake.on_start = lambda container: (container.directory / "remote.log").write_text("loading")
    with pytest.raises(RemoteFailedToStart, match=r"did not listen within 0.05 s.*\nloading"):
        create(open_store(start_timeout_s=0.05))
    assert fake.containers == {}


def test_a_missing_image_says_how_to_get_it(store, fake):
    fake.images.clear()
    with pytest.raises(MissingImage, match="raygym images build flashgames") as caught:
        create(store)
    assert caught.value.image.startswith("raygym/flashgames:")


@pytest.mark.parametrize(
    ("doing", "message", "expected"),
    [
        ("create", "write /x: no space left on device", DiskFull),
        ("start", "Bind for 127.0.0.1:5900 failed: port is already allocated", PortTaken),
        ("start", "runc create failed", EngineFailed),
    ],
)
def test_what_the_engine_lacks_has_an_error_of_its_own(
    store, fake, state, doing, message, expected
):
    fake.failures[doing] = (500, message)
    with pytest.raises(expected):
        create(store)
    assert fake.containers == {}
    assert list((state / "remotes").iterdir()) == []


def test_a_full_state_directory_is_a_full_disk(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raygym.remote_env.docker.places.write_lease", full)
    with pytest.raises(DiskFull, match="RAYGYM_STATE"):
        create(store)


def test_an_engine_that_hangs_is_given_up(fake, state: Path):
    engine = Engine(environ={"DOCKER_HOST": fake.address}, timeout_s=0.05)
    store = DockerStore(engine=engine, state=state, runtimes=RUNTIMES)
    engine.ping()
    fake.hold.clear()
    with pytest.raises(EngineFailed, match="did not answer in time"):
        store.remove("r-1")
    store.close()


def test_a_log_is_told_from_its_end(store):
    create(store)
    assert store.log_tail("r-1", lines=1) == "second line"
    assert store.log_tail("r-9") == ""


def test_a_survey_tells_what_there_is_of_a_cluster(store, state: Path):
    create(store, "r-1")
    create(store, "r-2", cluster="other")
    found = store.survey("local")
    assert [one.remote_id for one in found] == ["r-1"]
    one = found[0]
    assert (one.cluster, one.runtime, one.variant) == (
        "local", "flashgames", ("--mode", "realtime"),
    )  # fmt: skip
    assert (one.first_client, one.state, one.lease) == ("worker-3", "running", LEASE)
    assert one.directory == state / "remotes" / "r-1"
    assert one.created.endswith("+00:00")
    assert [one.remote_id for one in store.survey(None)] == ["r-1", "r-2"]


def test_a_survey_tells_of_directories_whose_container_is_gone(store, fake):
    create(store)
    fake.containers.clear()
    (found,) = store.survey("local")
    assert (found.remote_id, found.state, found.lease) == ("r-1", "gone", LEASE)
    assert found.runtime == "flashgames"


def test_a_survey_passes_over_a_directory_that_is_being_made(store, state: Path):
    newborn = state / "remotes" / "r-1"
    newborn.mkdir()
    assert store.survey(None) == []
    os.utime(newborn, (time.time() - 60, time.time() - 60))
    assert [one.remote_id for one in store.survey(None)] == ["r-1"]


def test_a_survey_does_not_follow_a_label_to_a_foreign_directory(store, fake, tmp_path: Path):
    create(store)
    fake.find("raygym-r-1").body["Labels"]["raygym.directory"] = str(tmp_path)
    found = store.survey("local")
    assert [(one.directory, one.lease) for one in found if one.state == "running"] == [(None, None)]


def test_one_remote_is_used_by_one_thread_at_a_time(store, fake):
    """A removal waits for the creation of the same remote."""
    is_starting, may_listen = threading.Event(), threading.Event()

    def start(container):
        is_starting.set()
        assert may_listen.wait(WAIT_S)
        listen(container)

    fake.on_start = start
    with ThreadPoolExecutor(2) as pool:
        creating = pool.submit(create, store)
        assert is_starting.wait(WAIT_S)
        removing = pool.submit(store.remove, "r-1")
        may_listen.set()
        creating.result(WAIT_S)
        removing.result(WAIT_S)
    assert fake.containers == {}


def test_a_runtime_without_an_image_is_refused(store):
    with pytest.raises(ConfigError, match="bare has no image"):
        store.create("r-1", "bare", client_id="c", variant=(), cluster="x", lease=LEASE)
    with pytest.raises(ConfigError, match="unknown runtime 'nope'"):
        store.create("r-1", "nope", client_id="c", variant=(), cluster="x", lease=LEASE)


def test_a_state_directory_with_a_long_path_is_refused(open_store, state: Path):
    deep = state / ("d" * 90)
    deep.mkdir()
    with pytest.raises(ConfigError, match=r"RAYGYM_STATE: .* too long"):
        create(open_store(state=deep))


def elsewhere(**options) -> DockerStore:
    engine = Engine(environ={"DOCKER_HOST": "tcp://198.51.100.7:2376"})
    return DockerStore(engine=engine, runtimes=RUNTIMES, **options)


def test_an_engine_on_another_machine_needs_published_ports():
    with pytest.raises(ConfigError, match="publish_ports=True"):
        elsewhere()


def test_real_time_on_another_machine_is_refused_for_want_of_tls():
    tls = TlsFiles(cert=Path("a"), key=Path("b"))
    with pytest.raises(ConfigError, match="speak no TLS"):
        create(elsewhere(publish_ports=True, tls=tls))


def test_lockstep_on_another_machine_needs_tls():
    with pytest.raises(ConfigError, match="raygym certs init"):
        create(elsewhere(publish_ports=True), variant=("--mode", "lockstep"))
