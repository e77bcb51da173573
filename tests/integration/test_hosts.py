from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, Hosts, needs
from tests.support.process_tree import descendants


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if obstacle := needs():
        pytest.fail(f"hosts cannot be made here: {obstacle}")
    with Hosts(tmp_path, ["one", "two"], variables={"COLOUR": "blue"}) as hosts:
        yield hosts


def log_in(hosts: Hosts, here: Host, there: Host, line: str) -> tuple[int, str]:
    """Gives a command by ssh, as Ray does; a host that is away is given up after 3 seconds."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=3"]
    flags = [part for option in options for part in ("-o", option)]
    login = f"bash --login -c '{line}'"
    words = ["ssh", "-q", *flags, "-i", str(hosts.key), f"root@{there.address}", login]
    done = here.run(words, timeout_s=30)
    return done.returncode, done.stdout.strip()


def comes_back(hosts: Hosts, here: Host, there: Host) -> None:
    deadline_s = time.monotonic() + 30
    while log_in(hosts, here, there, "true")[0] != 0:
        assert time.monotonic() < deadline_s, f"{there.name} is still away"


def test_hosts_reach_each_other_and_are_not_to_be_seen_from_outside(hosts):
    one, two = hosts
    assert log_in(hosts, one, two, "hostname; echo $COLOUR $HOME") == (
        0,
        f"two\nblue {two.home}",
    )
    assert os.uname().nodename not in ("one", "two")
    cards = [card.name for card in Path("/sys/class/net").iterdir()]
    assert not any(card.startswith(("port", "switch")) for card in cards)
    assert one.run(["ls", "/run/tmp", "/dev/shm"], timeout_s=10).stdout.split() == [
        "/dev/shm:",
        "/run/tmp:",
    ]


def test_a_host_that_is_unplugged_is_away_until_it_is_plugged_in(hosts):
    one, two = hosts
    two.unplug()
    assert log_in(hosts, one, two, "true")[0] == 255
    two.plug_in()
    comes_back(hosts, one, two)


def test_a_host_that_is_killed_leaves_its_files_and_nothing_else(hosts):
    one, two = hosts
    log_in(hosts, one, two, "touch ~/note; setsid sleep 600 >/dev/null 2>&1 &")
    running = descendants(two.init_pid)
    assert running
    two.kill()
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)
    assert log_in(hosts, one, two, "true")[0] == 255
    hosts.start(two)
    comes_back(hosts, one, two)
    assert log_in(hosts, one, two, "ls ~/note")[0] == 0


def test_a_host_ends_with_what_it_runs(hosts):
    one, _ = hosts
    hosts.close()
    assert not Path(f"/proc/{one.init_pid}").exists()
