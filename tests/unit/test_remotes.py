from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pytest

from raygym import remotes
from raygym.errors import ConfigError, LeaseExpired, LeaseHeld
from raygym.leases.file_registry import FileRegistry
from raygym.leases.protocols import Holder, Lease, LeaseFile, Want
from tests.support.fake_store import FakeClock, FakeStore

GONE = Holder(node="elsewhere", pid=4711, pid_namespace="pid:[1]", started_ticks=1)


class Machine:
    """A registry, a store and the command line, all on one clock."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.registry = FileRegistry(directory, clock=self.clock)

    def lease(self, client_id: str, *, holder: Holder | None = None, keep_s: float = 60) -> Lease:
        want = Want(
            client_id=client_id,
            runtime="gym-core",
            variant=("--mode", "lockstep"),
            env_id="gym-core.CartPole-v1",
            holder=holder or Holder.this_process(),
            ttl_s=15.0,
            keep_s=keep_s,
        )
        lease = self.registry.grant(want)
        self.store.create(
            lease.remote_id,
            lease.runtime,
            client_id=client_id,
            variant=lease.variant,
            cluster="local",
            lease=lease.as_file(),
        )
        self.registry.confirm(lease)
        return dataclasses.replace(lease, is_ready=True)

    def run(self, *words: str) -> int:
        parser = argparse.ArgumentParser()
        remotes.add_arguments(parser)
        return remotes.main(
            parser.parse_args(words), store=self.store, registry=self.registry, clock=self.clock
        )

    def ids(self) -> set[str]:
        return {found.remote_id for found in self.store.survey(None)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_nobody_reads_a_terminal_the_list_is_json(machine: Machine, capsys):
    lease = machine.lease("me")
    assert machine.run("ls") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["remote_id"], row["runtime"], row["state"]) == (
        lease.remote_id,
        "gym-core",
        "running",
    )
    assert row["lease"]["client_id"] == "me"
    assert row["lease"]["holder"]["pid"] == Holder.this_process().pid


def test_a_person_sees_a_table_of_who_holds_what(machine: Machine, capsys, monkeypatch):
    held = machine.lease("me", holder=GONE)
    kept = machine.registry.release(machine.lease("you"))
    machine.store.write_lease(kept.remote_id, kept.as_file())
    machine.clock.pass_s(3)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    machine.run("ls")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["id", "runtime", "mode", "state", "client"]
    by_id = {line.split()[0]: line.split() for line in lines}
    assert by_id[held.remote_id][1:8] == [
        "gym-core",
        "lockstep",
        "running",
        "me",
        "gym-core.CartPole-v1",
        "elsewhere:4711",
        "12",
    ]
    assert by_id[kept.remote_id][6:8] == ["(kept)", "57"]


def test_without_remotes_a_person_is_told_so(machine: Machine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    machine.run("ls")
    assert capsys.readouterr().out == "no remotes here\n"


def test_the_log_of_a_remote_is_printed(machine: Machine, capsys):
    lease = machine.lease("me")
    machine.run("logs", lease.remote_id)
    assert capsys.readouterr().out == f"log of {lease.remote_id}\n"


def test_an_unknown_remote_is_refused_with_those_that_are_there(machine: Machine):
    lease = machine.lease("me")
    with pytest.raises(ConfigError, match=f"no remote 'r-x' here. Known: {lease.remote_id}"):
        machine.run("logs", "r-x")


@pytest.mark.parametrize("verb", ["rm", "release"])
def test_what_a_live_process_holds_is_taken_only_by_force(machine: Machine, verb: str):
    lease = machine.lease("me")
    with pytest.raises(LeaseHeld, match=r"holds it for me, until 15 s .* --force"):
        machine.run(verb, lease.remote_id)
    assert machine.ids() == {lease.remote_id}
    machine.run(verb, lease.remote_id, "--force")
    with pytest.raises(LeaseExpired):
        machine.registry.renew(lease)


def test_a_released_remote_waits_for_its_client(machine: Machine, capsys):
    lease = machine.lease("me")
    machine.run("release", lease.remote_id, "--force")
    assert capsys.readouterr().out == f"released {lease.remote_id}: kept for me for 60 s\n"
    assert machine.lease("me").remote_id == lease.remote_id


def test_a_released_remote_that_is_not_kept_is_removed(machine: Machine):
    lease = machine.lease("me", keep_s=0)
    machine.run("release", lease.remote_id, "--force")
    assert machine.ids() == set()


def test_several_are_removed_at_once_and_their_rows_with_them(machine: Machine):
    leases = [machine.lease(name, holder=GONE) for name in ("a", "b", "c")]
    machine.run("rm", "--force", *(lease.remote_id for lease in leases[:2]))
    assert machine.ids() == {leases[2].remote_id}
    assert [row.client_id for row in machine.registry.rows()] == ["c"]


def test_what_nobody_holds_is_reaped_and_the_rest_stays(machine: Machine, capsys):
    machine.lease("gone")
    machine.clock.pass_s(10)
    held = machine.lease("me")
    machine.clock.pass_s(10)
    machine.run("reap")
    assert machine.ids() == {held.remote_id}
    assert [row.client_id for row in machine.registry.rows()] == ["me"]
    capsys.readouterr()
    machine.run("reap")
    assert capsys.readouterr().out == "nothing to reap\n"


def on_ray(machine: Machine, holder: Holder) -> None:
    """Adds the remote ``r-far`` of a Ray cluster."""
    lease = machine.lease("me", holder=GONE).as_file()
    machine.store.create(
        "r-far",
        "gym-core",
        client_id="far",
        variant=(),
        cluster="default",
        lease=dataclasses.replace(lease, client_id="far", holder=dict(vars(holder))),
    )


def lease_of(machine: Machine, remote_id: str) -> LeaseFile:
    (found,) = [one for one in machine.store.survey(None) if one.remote_id == remote_id]
    assert found.lease is not None
    return found.lease


def test_a_live_clients_remote_is_not_released_behind_its_rays_back(machine: Machine, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    on_ray(machine, dataclasses.replace(Holder.this_process(), node="0a1b2c"))
    with pytest.raises(ConfigError, match="name that Ray in RAY_ADDRESS"):
        machine.run("release", "r-far", "--force")
    machine.run("rm", "r-far", "--force")
    assert "r-far" not in machine.ids()


def test_a_dead_clients_remote_is_released_without_ray(machine: Machine, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here = Holder.this_process()
    on_ray(machine, dataclasses.replace(here, node="0a1b2c", started_ticks=here.started_ticks - 1))
    before = lease_of(machine, "r-far")
    machine.run("release", "r-far")
    assert capsys.readouterr().out == "released r-far: kept for far for 60 s\n"
    kept = lease_of(machine, "r-far")
    assert (kept.holder, kept.token) == (None, before.token + 1)
    assert kept.expires_unix_s == machine.clock() + 60


def test_the_registry_of_the_ray_that_is_named_hears_of_a_release(
    machine: Machine, monkeypatch, tmp_path: Path
):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    there = FileRegistry(tmp_path, cluster="default", clock=machine.clock)
    want = Want(client_id="far", runtime="gym-core", holder=GONE, ttl_s=15.0)
    lease = there.grant(want)
    there.confirm(lease)
    machine.store.create(
        lease.remote_id,
        "gym-core",
        client_id="far",
        variant=(),
        cluster="default",
        lease=lease.as_file(),
    )
    asked: list[str] = []

    def ray_registry(cluster: str) -> FileRegistry:
        asked.append(cluster)
        return there

    parser = argparse.ArgumentParser()
    remotes.add_arguments(parser)
    made = remotes.Remotes(
        machine.store, machine.registry, clock=machine.clock, ray_registry=ray_registry
    )
    made.do(parser.parse_args(["release", lease.remote_id, "--force"]))
    assert asked == ["default"]
    assert there.rows()[0].holder is None
    assert lease_of(machine, lease.remote_id).holder is None
