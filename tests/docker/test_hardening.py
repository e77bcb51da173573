"""What a remote's container may do, as the engine tells and as it looks from inside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from raygym.core import Remote
from raygym.remote_env.docker.container import UNPRIVILEGED_ID
from tests.support.docker_store import Containers, containers

USER = os.getuid() or UNPRIVILEGED_ID


@pytest.fixture(scope="module")
def made(flashgames_image: str) -> Iterator[tuple[Containers, Remote]]:
    """One flash remote in real time: the one with most inside."""
    with containers() as remotes:
        yield remotes, remotes.create(runtime="flashgames", variant=("--mode", "realtime"))


@pytest.fixture(scope="module")
def container(made: tuple[Containers, Remote]) -> Any:
    remotes, remote = made
    return remotes.container(remote.id)


@pytest.fixture(scope="module")
def host(container: Any) -> dict[str, Any]:
    return container.attrs["HostConfig"]


def inside(container: Any, command: str) -> tuple[int, str]:
    """Runs a shell command in the container, as its user."""
    code, printed = container.exec_run(["sh", "-c", command])
    return code, printed.decode().strip()


def test_all_capabilities_are_dropped(container, host):
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    _, status = inside(container, "grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/1/status")
    assert [line.split()[1] for line in status.splitlines()] == ["0" * 16] * 4


def test_it_can_gain_no_privileges(container, host):
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert inside(container, "grep ^NoNewPrivs /proc/1/status")[1].split()[1] == "1"


def test_the_default_seccomp_profile_holds(container, host):
    assert not any(option.startswith("seccomp") for option in host["SecurityOpt"])
    assert inside(container, "grep ^Seccomp: /proc/1/status")[1].split()[1] == "2"


def test_its_user_is_not_root(container):
    assert container.attrs["Config"]["User"] == f"{USER}:{os.getgid() or UNPRIVILEGED_ID}"
    assert inside(container, "id -u")[1] == str(USER)
    owners = inside(container, "stat -c %u /proc/[0-9]*")[1].split()
    assert set(owners) == {str(USER)}


def test_its_root_cannot_be_written_to(container, host):
    assert host["ReadonlyRootfs"] is True
    options = inside(container, "grep -E '^[^ ]+ / ' /proc/mounts")[1].split()[3]
    assert "ro" in options.split(",")
    places = "/ /usr/bin /etc /opt/raygym /var/tmp /home /tmp"
    writable = f"for place in {places}; do touch $place/x 2>/dev/null && echo $place; done; true"
    assert inside(container, writable) == (0, "/tmp")


def test_what_can_be_written_to_is_small_and_nothing_there_can_be_run(container):
    code, mounts = inside(container, "grep ' /tmp ' /proc/mounts")
    assert code == 0
    options = mounts.split()[3].split(",")
    assert {"noexec", "nosuid", "nodev"} <= set(options)
    assert any(option.startswith("size=") for option in options)
    assert inside(container, "cp /bin/true /tmp/t && /tmp/t")[0] == 126


def test_it_shares_no_memory_with_this_machine(host):
    assert host["IpcMode"] == "private"
    assert host["PidMode"] == ""
    assert host["UTSMode"] == ""


def test_memory_processors_and_processes_are_limited(made, host):
    limits = made[0].runtimes["flashgames"]
    assert host["Memory"] == limits.memory_mib * 2**20
    assert host["MemorySwap"] == host["Memory"]
    assert host["NanoCpus"] == int(limits.cpus * 1e9)
    assert host["PidsLimit"] == limits.pids
    assert host["OomKillDisable"] in (None, False)


def test_it_has_no_network_but_its_own_loopback(container, host):
    assert host["NetworkMode"] == "none"
    assert not host["PortBindings"]
    assert inside(container, "ls /sys/class/net")[1] == "lo"
    assert inside(container, "cat /proc/net/route")[1].count("\n") == 0


def test_it_sees_one_directory_of_this_machine_and_no_device(made, container, host):
    remotes, remote = made
    directory = remotes.state / "remotes" / remote.id
    binds = [mount for mount in container.attrs["Mounts"] if mount["Type"] == "bind"]
    assert [(m["Source"], m["Destination"]) for m in binds] == [(str(directory), "/run/raygym")]
    assert not host["Devices"]
    assert inside(container, "test -e /var/run/docker.sock")[0] != 0


def test_the_directory_is_private_to_its_user(made):
    remotes, remote = made
    for path in (remotes.state / "remotes", remotes.state / "remotes" / remote.id):
        assert path.stat().st_mode & 0o077 == 0
    assert (remotes.state / "remotes" / remote.id / "password").stat().st_mode & 0o077 == 0


def test_the_password_stands_in_no_place_but_its_file(made, container):
    remotes, remote = made
    secret = remote.password.reveal()
    assert len(secret) >= 8
    assert secret not in json.dumps(container.attrs)
    assert secret not in container.logs().decode(errors="replace")
    assert secret not in remotes.store.log_tail(remote.id, lines=1000)
    commands = inside(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")[1]
    assert "raygym.runtimes" in commands
    assert secret not in commands


def test_every_remote_has_a_password_of_its_own(made):
    remotes, remote = made
    other = remotes.create(runtime="flashgames", variant=("--mode", "realtime"))
    try:
        assert other.password.reveal() != remote.password.reveal()
    finally:
        remotes.store.remove(other.id)


def test_labels_tell_whose_it_is(made, container):
    remotes, remote = made
    labels = container.labels
    assert labels["raygym.cluster"] == remotes.cluster
    assert labels["raygym.remote"] == remote.id
    assert labels["raygym.runtime"] == "flashgames"
    assert labels["raygym.first_client"] == "tester"
    assert json.loads(labels["raygym.variant"]) == ["--mode", "realtime"]
    assert labels["raygym.created"].endswith("+00:00")


def test_no_zombies_are_left_of_what_ended_inside(container):
    inside(container, "(sleep 0.01 &) ; (true &) ; sleep 0.1")
    states = inside(container, "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1")[1]
    assert "Z" not in states.split()
