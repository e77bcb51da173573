"""A whole remote as a process of its own, with the runtime that needs no other program."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.core import Endpoint, Secret
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.catch import ENV_ID
from tests.support.universe_client import UniverseClient

TIMEOUT_S = 60.0


class Process:
    """``python -m raygym.runtimes catch`` and its log."""

    def __init__(self, directory: Path, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.directory = directory
        self.log = directory.parent / f"{directory.name}.log"
        self.command = [sys.executable, "-m", "raygym.runtimes", "catch"]
        self.command += ["--directory", str(directory), *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, pass_fds=pass_fds
            )

    def ready(self) -> dict[str, object]:
        """Waits until it listens; returns what it said."""
        path, deadline_s = self.directory / "ready.json", time.monotonic() + TIMEOUT_S
        while not path.is_file():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.02)
        return json.loads(path.read_text())

    def exit_code(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    with tempfile.TemporaryDirectory(prefix="rg-") as parent:
        started: list[Process] = []

        def begin(
            *arguments: str, directory: Path | None = None, pass_fds: tuple[int, ...] = ()
        ) -> Process:
            directory = directory or Path(parent, f"remote-{len(started)}")
            started.append(Process(directory, *arguments, pass_fds=pass_fds))
            return started[-1]

        yield begin
        for process in started:
            process.end()


def test_it_serves_both_channels_in_private_and_ends_cleanly_when_asked(start):
    process = start()
    said = process.ready()
    directory = process.directory
    assert said == {
        "runtime": "catch",
        "pid": process.process.pid,
        "hostname": socket.gethostname(),
        "vnc": f"unix:{directory}/vnc.sock",
        "rewarder": f"unix:{directory}/rewarder.sock",
        "protocol": 1,
    }
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    password = (directory / "password").read_text()
    with UniverseClient(directory / "rewarder.sock", password) as client:
        client.reset(ENV_ID, seed=1)
        vnc = VncSession(Endpoint(path=str(directory / "vnc.sock")), password=Secret(password))
        assert vnc.read_frame(timeout_s=60).pixels[:84, :84].any()
        vnc.close()
        process.process.terminate()
        farewell = client.until("v0.connection.close")
    assert farewell["body"]["message"] == "the remote was stopped"
    assert process.exit_code() == 0
    assert [path.name for path in directory.iterdir()] == ["password"]
    assert password not in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_password_that_is_handed_over_shows_nowhere(start):
    read, write = os.pipe()
    os.write(write, b"open-sesame")
    os.close(write)
    process = start("--password-fd", str(read), "--log-level", "DEBUG", pass_fds=(read,))
    os.close(read)
    process.ready()
    pid = process.process.pid
    shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    with UniverseClient(process.directory / "rewarder.sock", "wrong-guess") as stranger:
        assert stranger.until("v0.connection.close")["body"]["message"] == "Invalid password"
    with UniverseClient(process.directory / "rewarder.sock", "open-sesame") as client:
        client.reset(ENV_ID)
    process.process.send_signal(signal.SIGINT)
    assert process.exit_code() == 0
    shown += process.log.read_bytes()
    assert b"open-sesame" not in shown
    assert b"wrong-guess" not in shown
    assert not (process.directory / "password").exists()


def test_over_tcp_it_takes_free_ports_on_loopback_and_survives_a_port_scan(start):
    process = start("--vnc-port", "0", "--rewarder-port", "0", "--env-id", ENV_ID)
    said = process.ready()
    endpoints = {}
    for channel in ("vnc", "rewarder"):
        host, _, port = str(said[channel]).partition(":")
        assert host == "127.0.0.1"
        endpoints[channel] = Endpoint(host=host, port=int(port))
        for words in (b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\xff" * 500):
            with socket.create_connection((host, int(port)), 5) as stranger:
                stranger.sendall(words)
    password = Secret((process.directory / "password").read_text())
    rewarder = RewarderSession(endpoints["rewarder"], password=password)
    assert rewarder.reset(ENV_ID, seed=1, fps=50, timeout_s=60)
    rewarder.close()
    vnc = VncSession(endpoints["vnc"], password=password)
    assert vnc.read_frame(timeout_s=60).pixels.shape == (96, 384, 3)
    vnc.close()
    assert "Traceback" not in process.log.read_text()
    assert "ERROR" not in process.log.read_text()


def test_it_ends_with_its_owner(start):
    read, write = os.pipe()
    process = start("--lifeline-fd", str(read), pass_fds=(read,))
    os.close(read)
    try:
        process.ready()
    finally:
        os.close(write)
    assert process.exit_code() == 0
    assert not process.directory.exists()


def test_it_ends_when_nobody_comes(start):
    process = start("--idle-timeout-s", "0.1")
    assert process.exit_code() == 0
    assert "no client for 0.1 s" in process.log.read_text()


def test_the_next_one_in_the_directory_of_one_that_was_killed_replaces_what_it_left(start):
    killed = start()
    killed.ready()
    killed.process.kill()
    killed.exit_code()
    assert (killed.directory / "rewarder.sock").exists()
    following = start(directory=killed.directory)
    deadline_s = time.monotonic() + TIMEOUT_S
    while following.ready()["pid"] != following.process.pid:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    password = (following.directory / "password").read_text()
    with UniverseClient(following.directory / "rewarder.sock", password) as client:
        assert client.reset(ENV_ID) == "1"


def test_bad_arguments_end_with_code_2_and_a_reason(start):
    process = start("--env-id", "test.Throw-v0")
    assert process.exit_code() == 2
    assert "unknown env_id 'test.Throw-v0'" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()
