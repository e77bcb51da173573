"""The network between driver and node is cut in the middle of rollouts, and mended again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raygym.service.ray_running import start_with_tries
from tests.support.cut_off_driver import STOP_FILE, TOLD_FILE
from tests.support.hosts import Host, Hosts, needs
from tests.support.process_tree import command, parents

PORT = 6379
WITHIN_S = 150.0
EACH_STEPS = 60
ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node counts as dead after some 4 s of silence; left alone, after 15 to 20.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


class World:
    """A Ray of two hosts and a driver on the first of them.

    Args:
        hosts: The hosts.
        directory: Where the driver tells what it sees.
    """

    def __init__(self, hosts: Hosts, directory: Path) -> None:
        self.head, self.far = hosts
        self.directory = directory
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts Ray on both hosts, and the driver."""
        address = f"{self.head.address}:{PORT}"
        small = ("--num-cpus=2", f"--object-store-memory={80 * 2**20}", "--block")
        for host, flags in (
            (self.head, ("--head", f"--port={PORT}", "--include-dashboard=false")),
            (self.far, (f"--address={address}",)),
        ):
            start_with_tries(partial(self._start_ray, host, *flags, *small), undo=lambda: None)
        module = ("-m", "tests.support.cut_off_driver")
        self.driver = self._spawn(self.head, sys.executable, *module, address, str(self.directory))

    def stop(self) -> int:
        """Tells the driver to stop; returns its exit code."""
        (self.directory / STOP_FILE).touch()
        return self.driver.wait(WITHIN_S)

    def seen(self) -> dict[str, Any]:
        """Returns what the driver told last."""
        assert self.driver.poll() in (None, 0), self.logs()
        told = self.directory / TOLD_FILE
        # The last line may still be on its way.
        lines = told.read_text().split("\n")[:-1] if told.exists() else []
        return json.loads(lines[-1]) if lines else {}

    def is_far_empty(self) -> bool:
        """Returns whether nothing plays on the second host any more."""
        return not _runs(self.far, "ray::RolloutActor") and not self._far_environments()

    def is_ray_there(self) -> bool:
        """Returns whether Ray runs on the second host."""
        return _runs(self.far, "raylet")

    def logs(self) -> str:
        """Returns what everybody has said."""
        return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in self._logs())

    def wait(self) -> None:
        """Waits for what was started, once its hosts are gone."""
        for process in self._started:
            process.wait(10)

    def _logs(self) -> list[Path]:
        return sorted(self.directory.glob("*.log"))

    def _far_environments(self) -> set[int]:
        """Returns the processes of environments: spawned by actors."""
        return {
            pid for pid in _inside(self.far) if any("spawn_main" in word for word in command(pid))
        }

    def _start_ray(self, host: Host, *flags: str) -> None:
        # Of this interpreter, whatever else is on the path.
        ray = str(Path(sys.executable).parent / "ray")
        process = self._spawn(host, ray, "start", f"--node-ip-address={host.address}", *flags)
        has_started = partial(_says, self._logs()[-1], "Ray runtime started")
        eventually(lambda: process.poll() is not None or has_started(), "Ray starts", self.logs)
        assert process.poll() is None, self.logs()

    def _spawn(self, host: Host, *words: str) -> subprocess.Popen[bytes]:
        log = self.directory / f"{len(self._logs())}-{host.name}.log"
        with log.open("wb") as file:
            started = subprocess.Popen(
                [*host.enter(), "env", *(f"{k}={v}" for k, v in ENVIRONMENT.items()), *words],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(host.home)},
                cwd=host.home,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(started)
        return started


def _inside(host: Host) -> set[int]:
    """Returns the processes in a host's namespace."""
    found = set()
    space = Path(f"/proc/{host.init_pid}/ns/pid").readlink()
    for pid in parents():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/ns/pid").readlink() == space:
                found.add(pid)
    return found


def _says(log: Path, words: str) -> bool:
    return words in log.read_text()


def _runs(host: Host, title: str) -> bool:
    titles = (command(pid)[:1] for pid in _inside(host))
    return any(Path(word).name.startswith(title) for words in titles for word in words)


def eventually(condition: Callable[[], bool], what: str, told: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {WITHIN_S:g} s: {what}\n{told()}"
        time.sleep(0.1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    assert not needs(), needs()
    with Hosts(tmp_path / "hosts", ("head", "far"), shm_bytes=256 * 2**20) as hosts:
        made = World(hosts, tmp_path)
        made.start()
        yield made
    made.wait()


def have_played(world: World, since: dict[str, Any], slots: set[int]) -> bool:
    steps, before = world.seen().get("steps"), since.get("steps", [0] * 4)
    return bool(steps) and all(steps[slot] >= before[slot] + EACH_STEPS for slot in slots)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_slots_behind_a_cut_go_on_here_and_what_is_there_ends_itself(world: World):
    def wait(condition: Callable[[], bool], what: str) -> None:
        eventually(condition, what, world.logs)

    wait(lambda: have_played(world, {}, {0, 1, 2, 3}), "all slots play")
    before = world.seen()
    moved = {slot for slot, node in enumerate(before["nodes"]) if node != before["head"]}
    stayed = {0, 1, 2, 3} - moved
    assert len(moved) == len(stayed) == 2
    world.far.unplug()
    wait(lambda: have_played(world, before, stayed), "the slots of this side go on")
    wait(lambda: set(world.seen()["nodes"]) == {before["head"]}, "the others are replaced")
    wait(world.is_far_empty, "what was cut off ends itself")
    assert world.is_ray_there(), "Ray has ended all that was cut off"
    world.far.plug_in()
    mended = world.seen()
    wait(lambda: have_played(world, mended, {0, 1, 2, 3}), "all slots play on")
    assert world.stop() == 0, world.logs()
    after = world.seen()
    assert after["failed"] == []
    assert set(after["lost"]) == moved
    assert [after["environments"][slot] for slot in sorted(stayed)] == [1, 1]
    assert [after["environments"][slot] for slot in sorted(moved)] == [2, 2]
