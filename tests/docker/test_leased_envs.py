"""What a user asks for by ``backend="docker"``, without Ray."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

import raygym
from raygym import DockerConfig
from raygym.environments.backends import resolve_backend
from raygym.errors import LeaseHeld, RuntimeMismatch

NEON, DUSK, CART = "flashgames.NeonRace-v0", "flashgames.DuskDrive-v0", "gym-core.CartPole-v1"
WOB = "wob.mini.UseColorwheel2-v0"
RAYGYM = str(Path(sys.executable).with_name("raygym"))
SMALL = raygym.ObservationConfig(height_px=72, width_px=96, is_grey=True)

HOLDS = """
import sys, raygym
env = raygym.make(sys.argv[1], backend="docker", client_id=sys.argv[2], mode="lockstep",
                  docker=raygym.DockerConfig(ttl_s=float(sys.argv[3])))
env.reset(seed=1)
print(env.unwrapped.remote_id, flush=True)
while True:
    if env.step(env.action_space.sample())[2]:
        env.reset()
"""


@pytest.fixture(autouse=True)
def state(engine: DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own; what it names is removed with it."""
    # Shorter than pytest's: a unix socket's path is limited.
    directory = Path(tempfile.mkdtemp(prefix="rgt-", dir="/dev/shm"))
    monkeypatch.setenv("RAYGYM_STATE", str(directory))
    yield directory
    for path in (directory / "remotes").glob("r-*"):
        for container in engine.containers.list(
            filters={"name": f"raygym-{path.name}"}, ignore_removed=True
        ):
            container.remove(force=True)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def client() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def start(env_id: str, **options: Any) -> Any:
        mode = {"mode": "lockstep"} | options
        made.append(raygym.make(env_id, backend="docker", **mode))
        return made[-1]

    yield start
    for env in made:
        env.close()


@pytest.fixture
def hold(client: str) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts another process that plays; returns it and its remote's id."""
    processes: list[subprocess.Popen[str]] = []

    def start(env_id: str, ttl_s: float = 15.0) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, env_id, client, str(ttl_s)],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def running(engine: DockerClient, remote_id: str) -> bool:
    return bool(
        engine.containers.list(filters={"name": f"raygym-{remote_id}"}, ignore_removed=True)
    )


def await_gone(engine: DockerClient, remote_id: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while running(engine, remote_id):
        assert time.monotonic() < deadline_s, f"{remote_id} is still there after {timeout_s} s"
        time.sleep(0.1)


@pytest.mark.usefixtures("gym_core_image")
class TestGymCore:
    def test_a_steady_client_id_reuses_the_remote(self, make, client: str):
        env = make(CART, client_id=client)
        env.reset(seed=1)
        first = env.remote_id
        env.close()
        env = make(CART, client_id=client)
        env.reset(seed=1)
        assert env.remote_id == first

    def test_a_client_without_a_name_leaves_nothing(self, make, engine, state: Path):
        env = make(CART)
        env.reset(seed=1)
        remote_id = env.remote_id
        env.close()
        assert not running(engine, remote_id)
        assert list((state / "remotes").iterdir()) == []

    def test_who_was_killed_gets_the_same_remote_back_at_once(self, make, hold, client: str):
        process, remote_id = hold(CART)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        env = make(CART, client_id=client)
        env.reset(seed=1)
        assert env.remote_id == remote_id

    def test_what_nobody_holds_any_more_ends_by_itself(self, hold, engine):
        process, remote_id = hold(CART, ttl_s=2.0)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        await_gone(engine, remote_id, 2.0 + 15)

    def test_two_live_clients_of_one_name_cannot_share_a_remote(self, make, hold, client: str):
        process, remote_id = hold(CART)
        with pytest.raises(LeaseHeld) as caught:
            make(CART, client_id=client)
        assert remote_id in caught.value.message
        assert socket.gethostname() in caught.value.message
        assert str(process.pid) in caught.value.message
        assert re.search(r"renewed it \d+(\.\d+)? s ago", caught.value.message), (
            caught.value.message
        )

    def test_another_environment_of_the_runtime_keeps_the_container(self, make, client: str):
        env = make(CART, client_id=client)
        first = env.remote_id
        env.close()
        env = make("gym-core.MountainCar-v0", client_id=client)
        assert env.reset(seed=1)[0].shape == (2,)
        assert env.remote_id == first

    def test_a_container_that_is_killed_ends_its_episode_and_is_replaced(self, make, engine):
        env = make(CART)
        env.reset(seed=1)
        first = env.remote_id
        engine.containers.get(f"raygym-{first}").kill()
        while True:
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            if info["outcome"] != "ok":
                break
            if terminated or truncated:
                env.reset()
        assert (truncated, info["outcome"]) == (True, "infra_failure")
        env.reset()
        assert env.step(0)[4]["outcome"] == "ok"
        assert env.remote_id != first

    def test_a_remote_that_was_removed_by_hand_ends_its_episode(self, make, client: str):
        env = make(CART, client_id=client)
        env.reset(seed=1)
        done = subprocess.run(
            [RAYGYM, "remotes", "rm", "--force", env.remote_id],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == f"removed {env.remote_id}\n"
        outcomes = {env.step(0)[4]["outcome"]}
        env.reset()
        outcomes.add(env.step(0)[4]["outcome"])
        assert outcomes <= {"ok", "infra_failure", "preempted"}
        assert "ok" in outcomes

    def test_twenty_side_by_side_have_a_container_each(self, engine):
        envs = raygym.make_vec(CART, remotes=20, backend="docker", mode="lockstep")
        try:
            envs.reset(seed=1)
            ids = set(envs.remote_ids)
            assert len(ids) == 20
            assert all(running(engine, remote_id) for remote_id in ids)
        finally:
            envs.close()
        assert not any(running(engine, remote_id) for remote_id in ids)

    def test_auto_takes_a_container_where_it_can(self):
        choice = resolve_backend("auto", "gym-core", has_addresses=False)
        assert str(choice) == "docker (an engine and the image are there)"

    def test_auto_takes_processes_where_no_engine_answers(self, monkeypatch, tmp_path: Path):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        choice = resolve_backend("auto", "gym-core", has_addresses=False)
        assert choice.name == "process"
        assert str(tmp_path) in choice.why

    def test_the_list_of_remotes_needs_no_ray(self, make, client: str):
        env = make(CART, client_id=client)
        done = subprocess.run(
            [RAYGYM, "remotes", "ls"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        (row,) = [row for row in json.loads(done.stdout) if row["remote_id"] == env.remote_id]
        assert (row["state"], row["runtime"]) == ("running", "gym-core")
        assert (row["lease"]["client_id"], row["lease"]["holder"]["pid"]) == (client, os.getpid())


@pytest.mark.usefixtures("flashgames_image")
class TestFlashGames:
    def test_another_game_takes_one_reset_of_the_same_container(self, make, client: str):
        env = make(DUSK, client_id=client, observation=SMALL)
        env.reset(seed=1)
        first = env.remote_id
        env.close()
        env = make(NEON, client_id=client, observation=SMALL)
        observation, info = env.reset(seed=1)
        assert env.remote_id == first
        assert (observation.shape, info["outcome"]) == ((72, 96, 1), "ok")

    def test_a_person_can_look_in_over_a_port_on_loopback(self, make):
        env = make(NEON, mode="realtime")
        env.reset(seed=1)
        view = subprocess.Popen(
            [RAYGYM, "remotes", "view", env.remote_id],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
        )
        try:
            assert view.stdout is not None
            match = re.search(r"127\.0\.0\.1::(\d+)", view.stdout.readline())
            assert match is not None
            with socket.create_connection(("127.0.0.1", int(match.group(1))), timeout=10) as viewer:
                assert viewer.recv(12) == b"RFB 003.008\n"
        finally:
            view.send_signal(signal.SIGINT)
            assert view.wait(10) == 0
            view.stdout.close()


@pytest.mark.usefixtures("gym_core_image", "wob_image")
class TestMismatch:
    def test_another_runtime_is_refused_with_both_ways_out(self, make, client: str):
        make(CART, client_id=client).reset(seed=1)
        with pytest.raises(RuntimeMismatch) as caught:
            make(WOB, client_id=client).reset(seed=1)
        assert "another client_id" in caught.value.message
        assert "on_mismatch='new'" in caught.value.message

    def test_or_is_given_a_second_remote_where_that_is_asked_for(self, make, client: str):
        first = make(CART, client_id=client)
        second = make(WOB, client_id=client, docker=DockerConfig(on_mismatch="new"))
        second.reset(seed=1)
        assert second.remote_id not in (None, first.remote_id)
        assert first.reset(seed=1)[1]["outcome"] == "ok"
