"""A run in containers goes on when whoever plays in it is killed, or what is played on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from tests.support.process_tree import all_end, command, descendants

WAIT_S = 240.0
MORE_STEPS = 300
"""That a run takes after somebody was killed."""


class Run:
    """A training in a process of its own.

    Args:
        engine: A client of the engine.
        algo: What learns.
        root: A directory of its own.
        state: Where the remotes' directories are.
    """

    def __init__(self, engine: DockerClient, algo: str, root: Path, state: str) -> None:
        self.engine = engine
        self.cluster = f"test-{secrets.token_hex(4)}"
        self.summary = root / "summary.json"
        self.log = root / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "raygym.train", "--env", "gym-core.CartPole-v1"),
                    *("--backend", "docker", "--algo", algo, "--num-slots", "2"),
                    *("--logdir", str(root / "run"), "--summary", str(self.summary)),
                    *("--minutes", "30"),
                ],
                env={
                    **os.environ,
                    "RAY_ADDRESS": "local",
                    "RAYGYM_CLUSTER": self.cluster,
                    "RAYGYM_STATE": state,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def steps(self) -> int:
        """Returns how many steps it says it took."""
        return max((int(found) for found in re.findall(r"steps +(\d+)", self.said())), default=0)

    def actors(self, name: str) -> set[int]:
        """Returns the processes of its actors of a class."""
        tree = descendants(self.process.pid)
        return {pid for pid in tree if " ".join(command(pid)).startswith(f"ray::{name}")}

    def containers(self) -> dict[str, Any]:
        """Returns its containers that run, by Remote."""
        label = f"raygym.cluster={self.cluster}"
        found = self.engine.containers.list(filters={"label": label}, ignore_removed=True)
        return {one.labels["raygym.remote"]: one for one in found}

    def kill_actor(self, name: str) -> None:
        victims = self.actors(name)
        assert victims, self.said()
        victim = min(victims)
        os.kill(victim, signal.SIGKILL)
        assert all_end({victim}, timeout_s=WAIT_S)

    def kill_container(self) -> str:
        """Kills the first process of a container; returns its Remote."""
        remote_id, container = min(self.containers().items())
        os.kill(int(container.attrs["State"]["Pid"]), signal.SIGKILL)
        return remote_id

    def goes_on(self) -> None:
        """Waits until it has taken so many more steps."""
        wanted = self.steps() + MORE_STEPS
        self.eventually(lambda: self.steps() >= wanted, f"{wanted} steps")

    def eventually(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + WAIT_S
        while not is_so():
            assert self.process.poll() is None, f"{what}: the run ended:\n{self.said()}"
            assert time.monotonic() < until_s, f"{what}:\n{self.said()}"
            time.sleep(0.2)

    def stop(self) -> dict[str, Any]:
        """Has it end in an orderly way; returns its summary."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(WAIT_S) == 0, self.said()
        summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return summary

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(WAIT_S)
        for container in self.containers().values():
            container.remove(force=True)


@pytest.fixture
def start(
    engine: DockerClient, gym_core_image: str, tmp_path: Path
) -> Iterator[Callable[[str], Run]]:
    # Shorter than pytest's: a unix socket's path is limited.
    state = tempfile.mkdtemp(prefix="rgt-", dir="/dev/shm")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, state, ignore_errors=True)

        def make(algo: str) -> Run:
            run = Run(engine, algo, tmp_path, state)
            stack.callback(run.close)
            return run

        yield make


@pytest.mark.alone
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("algo", "actor"), [("batched", "LearnerActor"), ("ppo", "RolloutActor")])
def test_a_run_goes_on_whoever_is_killed(start: Callable[[str], Run], algo: str, actor: str):
    run = start(algo)
    run.goes_on()
    held = set(run.containers())
    run.kill_actor(actor)
    run.eventually(lambda: bool(run.actors(actor)), f"another {actor}")
    run.goes_on()
    assert set(run.containers()) == held, "the Remotes of the one that was killed are found again"
    lost = run.kill_container()
    run.goes_on()
    run.eventually(lambda: lost not in run.containers() and bool(run.containers()), "another one")
    before = descendants(run.process.pid)
    summary = run.stop()
    assert summary["actors_lost"] >= 1
    assert summary["remotes"]["lost"] >= 1
    assert summary["outcomes"]["ok"] >= 1
    assert summary["outcomes"]["infra_failure"] >= 1
    assert all_end(before, timeout_s=WAIT_S)
