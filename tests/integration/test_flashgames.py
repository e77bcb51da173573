"""A whole flashgames remote as a process: its two channels, its failures and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.core import Endpoint, Secret
from raygym.remote_env.controls import KeyInput
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.flashgames.task import TIMING_STRIP_PX
from raygym.wire import timing
from raygym.wire.keysyms import keysym
from raygym.wire.rewarder_client import RewardBatch
from tests.support.process_tree import all_end, command, descendants

NEON = "flashgames.NeonRace-v0"
DUSK = "flashgames.DuskDrive-v0"
START_TIMEOUT_S = 120.0


class Remote:
    """One remote as its backend starts it, in a directory of its own."""

    def __init__(self, directory: Path, env_id: str = NEON) -> None:
        self.directory = directory
        self.log = directory / "remote.log"
        arguments = ["flashgames", "--directory", str(directory), "--env-id", env_id]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raygym.runtimes", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_until((directory / "ready.json").is_file)
        self.password = Secret((directory / "password").read_text())

    def wait_until(self, is_so: Callable[[], object], timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def wait_for_the_browser(self) -> set[int]:
        """Waits until the game plays; returns every process below the host."""
        self.wait_until(lambda: "page.playing" in self.log.read_text())
        return descendants(self.process.pid)

    def vnc(self) -> VncSession:
        return VncSession(Endpoint(path=str(self.directory / "vnc.sock")), password=self.password)

    def rewarder(self) -> RewarderSession:
        endpoint = Endpoint(path=str(self.directory / "rewarder.sock"))
        return RewarderSession(endpoint, password=self.password)

    def pids(self, *words: str) -> list[int]:
        """Returns the processes below it whose command line has all these words."""
        below = {pid: " ".join(command(pid)) for pid in descendants(self.process.pid)}
        return [pid for pid, text in below.items() if all(word in text for word in words)]

    def browser_pid(self) -> int:
        (pid,) = set(self.pids("--remote-debugging-pipe")) - set(self.pids("--type="))
        return pid

    def end(self) -> None:
        below = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        assert all_end(below)


@pytest.fixture
def start() -> Iterator[Callable[[], Remote]]:
    with tempfile.TemporaryDirectory(prefix="rg-") as parent:
        started: list[Remote] = []

        def begin() -> Remote:
            directory = Path(parent, str(len(started)))
            directory.mkdir(mode=0o700)
            started.append(Remote(directory))
            return started[-1]

        yield begin
        for it in started:
            it.end()


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with tempfile.TemporaryDirectory(prefix="rg-") as directory:
        it = Remote(Path(directory))
        yield it
        it.end()


@pytest.fixture
def vnc(remote: Remote) -> Iterator[VncSession]:
    session = remote.vnc()
    yield session
    session.close()


@pytest.fixture
def rewarder(remote: Remote) -> Iterator[RewarderSession]:
    session = remote.rewarder()
    yield session
    session.close()


def pop_until(
    rewarder: RewarderSession, is_wanted: Callable[[RewardBatch], object], timeout_s: float
) -> RewardBatch:
    deadline = time.monotonic() + timeout_s
    while not is_wanted(batch := rewarder.pop()):
        assert time.monotonic() < deadline, f"the last batch was {batch}"
        time.sleep(0.01)
    return batch


def test_keys_over_vnc_bring_rewards_over_the_reward_channel(remote, vnc, rewarder):
    rewarder.reset(NEON, seed=11, fps=25.0, timeout_s=30)
    assert pop_until(rewarder, lambda batch: batch.info.get("seed"), 5).info["seed"] == 11
    vnc.send([KeyInput(keysym("ArrowUp"), True)])
    batch = pop_until(rewarder, lambda batch: batch.reward > 0, 10)
    vnc.send([KeyInput(keysym("ArrowUp"), False)])
    assert batch.info["game_state"]["speed"] > 0


def test_the_picture_carries_its_time_and_the_manifest_says_where(remote, vnc, rewarder):
    rewarder.reset(DUSK, seed=None, fps=25.0, timeout_s=30)
    frame = vnc.read_frame(timeout_s=60)
    mark = timing.read(frame.pixels, *TIMING_STRIP_PX)
    assert mark is not None
    assert abs(timing.age_ms(time.time(), mark.painted_at_ms)) < 5000
    assert rewarder.manifest["timing_strip"] == list(TIMING_STRIP_PX)
    assert rewarder.manifest["screen"] == [frame.pixels.shape[1], frame.pixels.shape[0]]
    assert set(rewarder.manifest["env_ids"]) >= {NEON, DUSK}


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "browser_crashed"), (signal.SIGSTOP, "browser_hung")],
)
def test_a_broken_browser_ends_the_episode_with_its_reason_and_the_next_one_begins(
    remote, rewarder, number, reason
):
    rewarder.reset(NEON, seed=None, fps=25.0, timeout_s=30)
    episode_id = rewarder.episode_id
    is_kill = number == signal.SIGKILL
    victims = [remote.browser_pid()] if is_kill else remote.pids("--type=renderer")
    old = descendants(remote.browser_pid())
    began_s = time.monotonic()
    for pid in victims:
        os.kill(pid, number)
    batch = pop_until(rewarder, lambda batch: batch.done, 5)
    assert batch.info["outcome"] == "env_failure"
    assert batch.info["reason"] == reason
    assert rewarder.await_episode(after=episode_id, timeout_s=60) != episode_id
    assert time.monotonic() - began_s < 10
    assert all_end(old)


def test_sigterm_leaves_no_process_and_no_file(start):
    remote = start()
    below = remote.wait_for_the_browser()
    assert len(below) > 3
    remote.process.terminate()
    assert remote.process.wait(10) == 0
    assert all_end(below)
    assert {path.name for path in remote.directory.iterdir()} == {"password", "remote.log"}


def test_a_killed_screen_ends_the_remote_with_exit_code_3_and_leaves_nothing(start):
    remote = start()
    below = remote.wait_for_the_browser()
    (xvnc,) = remote.pids("Xvnc", "-displayfd")
    os.kill(xvnc, signal.SIGKILL)
    assert remote.process.wait(10) == 3
    assert all_end(below)
    assert {path.name for path in remote.directory.iterdir()} == {"password", "remote.log"}


def test_a_killed_host_leaves_no_process(start):
    remote = start()
    below = remote.wait_for_the_browser()
    remote.process.kill()
    remote.process.wait(10)
    assert all_end(below)
