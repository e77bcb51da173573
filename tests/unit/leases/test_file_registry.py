from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.errors import LeaseExpired, LeaseHeld
from raygym.leases.file_registry import FileRegistry, RegistryBusy
from raygym.leases.protocols import Holder, Want
from tests.support.fake_store import FakeClock, FakeStore

DEADLINE_S = 60.0
HERE = Holder.this_process()
WANT = Want(client_id="worker-0", runtime="flashgames", holder=HERE, ttl_s=15.0, keep_s=60.0)

CHILD = """
import sys, time
from pathlib import Path
from raygym.leases.file_registry import FileRegistry
from raygym.leases.protocols import Holder, Want

registry = FileRegistry(Path(sys.argv[1]), lock_timeout_s=50.0)
name = sys.argv[2]

def want(client_id):
    return Want(client_id=client_id, runtime="wob", holder=Holder.this_process(), ttl_s=600.0)

if name == "hold the lock":
    with registry._locked():
        print("held", flush=True)
        time.sleep(600)
elif name == "grant and stay":
    lease = registry.grant(want("worker-0"))
    registry.confirm(lease)
    print(lease.remote_id, flush=True)
    time.sleep(600)
else:
    for number in range(20):
        registry.confirm(registry.grant(want(f"{name}-{number}")))
"""


@pytest.fixture
def spawn(tmp_path) -> Callable[[str], subprocess.Popen[str]]:
    """Starts a process with a registry of its own over the same directory."""
    children = []

    def start(name: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), name],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=DEADLINE_S)


def test_a_lease_goes_its_way_over_several_registries_of_one_directory(tmp_path):
    clock = FakeClock()
    one, other = (FileRegistry(tmp_path, clock=clock) for _ in range(2))
    lease = one.grant(WANT)
    assert lease.remote_id.startswith("r-")
    one.confirm(lease)
    clock.pass_s(5)
    assert other.renew(lease).expires_s == clock() + 15
    assert other.rebind(lease, "flashgames.NeonRace-v0").env_id == "flashgames.NeonRace-v0"
    kept = other.release(lease)
    assert kept is not None
    assert list(one.rows()) == [kept]
    again = one.grant(WANT)
    assert again.remote_id == lease.remote_id
    with pytest.raises(LeaseExpired):
        other.renew(lease)
    one.forget(again.remote_id, again.token)
    assert list(other.rows()) == []


def test_a_spare_is_handed_over_and_what_ran_out_is_returned(tmp_path):
    clock = FakeClock()
    registry = FileRegistry(tmp_path, clock=clock)
    spare = registry.add_spare("flashgames", (), HERE, 15.0)
    registry.confirm(spare)
    assert registry.grant(WANT).remote_id == spare.remote_id
    assert list(registry.expire()) == []
    clock.pass_s(15)
    assert [row.remote_id for row in registry.expire()] == [spare.remote_id]


def test_names_of_remotes_do_not_repeat(tmp_path):
    registry = FileRegistry(tmp_path)
    leases = [registry.grant(replace(WANT, client_id=f"worker-{n}")) for n in range(50)]
    assert len({lease.remote_id for lease in leases}) == 50


def test_the_files_are_private(tmp_path):
    FileRegistry(tmp_path).grant(WANT)
    assert {path.name for path in tmp_path.iterdir()} == {"registry.json", "registry.lock"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


def test_reading_writes_nothing(tmp_path):
    registry = FileRegistry(tmp_path)
    registry.grant(WANT)
    before = (tmp_path / "registry.json").stat()
    registry.rows()
    registry.forget("r-unknown", 1)
    after = (tmp_path / "registry.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_processes_that_grant_at_once_lose_nothing(tmp_path, spawn):
    children = [spawn(f"child-{number}") for number in range(3)]
    registry = FileRegistry(tmp_path, lock_timeout_s=DEADLINE_S)
    for number in range(20):
        registry.grant(replace(WANT, client_id=f"parent-{number}"))
    for child in children:
        child.communicate(timeout=DEADLINE_S)
        assert child.returncode == 0
    rows = registry.rows()
    assert len({row.client_id for row in rows}) == 80
    assert sorted(row.token for row in rows) == list(range(rows[0].token, rows[0].token + 80))


def test_the_lock_of_a_process_killed_with_it_is_free(tmp_path, spawn):
    child = spawn("hold the lock")
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    registry = FileRegistry(tmp_path, lock_timeout_s=0.05)
    with pytest.raises(RegistryBusy, match=r"registry\.lock: another process .* 0\.05 s.*fuser"):
        registry.rows()
    child.kill()
    child.wait(DEADLINE_S)
    assert list(FileRegistry(tmp_path, lock_timeout_s=DEADLINE_S).rows()) == []


def test_a_remote_of_a_live_process_is_held_until_it_is_killed(tmp_path, spawn):
    child = spawn("grant and stay")
    assert child.stdout is not None
    remote_id = child.stdout.readline().strip()
    registry = FileRegistry(tmp_path)
    want = replace(WANT, runtime="wob")
    with pytest.raises(LeaseHeld) as caught:
        registry.grant(want)
    assert (caught.value.pid, caught.value.node) == (child.pid, HERE.node)
    child.send_signal(signal.SIGKILL)
    child.wait(DEADLINE_S)
    assert registry.grant(want).remote_id == remote_id


def test_a_lock_file_that_was_removed_meanwhile_is_made_anew(tmp_path, monkeypatch):
    registry = FileRegistry(tmp_path, lock_timeout_s=DEADLINE_S)
    lock = tmp_path / "registry.lock"
    flock = fcntl.flock
    cleanings = iter([lock.unlink])

    def flock_of_a_removed_file(descriptor: int, operation: int) -> None:
        next(cleanings, lambda: None)()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_a_removed_file)
    with registry._locked(), lock.open("r+") as new, pytest.raises(BlockingIOError):
        flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lose(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:40])
    else:
        path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("how", ["removed", "cut", "overwritten"])
def test_a_lost_table_is_rebuilt_from_the_containers(tmp_path, how, caplog):
    clock = FakeClock()
    store = FakeStore(clock)
    registry = FileRegistry(tmp_path, clock=clock, survey=lambda: store.survey(None))
    lease = registry.grant(WANT)
    elsewhere = replace(lease, remote_id="r-elsewhere", client_id="worker-1")
    for cluster, one in [("local", lease), ("default", elsewhere)]:
        store.create(
            one.remote_id,
            one.runtime,
            client_id=one.client_id,
            variant=(),
            cluster=cluster,
            lease=one.as_file(),
        )
    registry.confirm(lease)
    lose(tmp_path / "registry.json", how)
    assert [row.remote_id for row in registry.rows()] == [lease.remote_id]
    assert registry.renew(lease).token == lease.token
    again = registry.grant(WANT)
    assert (again.remote_id, again.is_ready) == (lease.remote_id, True)
    assert again.token > lease.token
    assert ("registry.rebuilt" in caplog.text) == (how != "removed")
    assert (tmp_path / "registry.broken").exists() == (how != "removed")


def test_tokens_grow_over_the_loss_of_a_table_whose_containers_are_gone_too(tmp_path):
    clock = FakeClock()
    registry = FileRegistry(tmp_path, clock=clock)
    tokens = [registry.grant(WANT).token for _ in range(3)]
    (tmp_path / "registry.json").unlink()
    clock.pass_s(10)
    assert registry.grant(WANT).token > max(tokens)


def test_rebuild_adds_what_is_missing_and_keeps_what_is_there(tmp_path):
    clock = FakeClock()
    store = FakeStore(clock)
    there, lost = (FileRegistry(tmp_path / name, clock=clock) for name in ("there", "lost"))
    (tmp_path / "there").mkdir()
    (tmp_path / "lost").mkdir()
    known = there.grant(WANT)
    missing = lost.grant(replace(WANT, client_id="worker-1"))
    for lease in (known, missing):
        store.create(
            lease.remote_id,
            lease.runtime,
            client_id=lease.client_id,
            variant=(),
            cluster="local",
            lease=lease.as_file(),
        )
    added = there.rebuild(store.survey("local"))
    assert [row.remote_id for row in added] == [missing.remote_id]
    assert {row.remote_id for row in there.rows()} == {known.remote_id, missing.remote_id}
    assert not next(r for r in there.rows() if r.remote_id == known.remote_id).is_ready


def test_a_write_that_fails_leaves_the_table_as_it_was(tmp_path, monkeypatch):
    registry = FileRegistry(tmp_path)
    lease = registry.grant(WANT)
    before = (tmp_path / "registry.json").read_text()

    def full(self, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            registry.confirm(lease)
    assert (tmp_path / "registry.json").read_text() == before
    registry.confirm(lease)
    assert json.loads((tmp_path / "registry.json").read_text())["rows"][0]["is_ready"]
