"""Remotes as a container runs them: tied to a lease, seen by clients under another path."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raygym.core import Endpoint
from raygym.remote_env.lease_file import LeaseFile, write_lease
from raygym.remote_env.rpc.connect import Access, open_session
from raygym.remote_env.rpc.session import MakeOptions

WAIT_S = 90.0


class Contained:
    """One far end, with its directory under two paths."""

    def __init__(self, root: Path) -> None:
        self.outside = root / "outside"
        self.outside.mkdir(mode=0o700)
        self.inside = root / "inside"
        self.inside.symlink_to(self.outside)
        self._process: subprocess.Popen[bytes] | None = None

    def lease(self, lasts_s: float) -> None:
        expires_s = time.time() + lasts_s
        lease = LeaseFile(token=1, client_id="c", runtime="gym-core", expires_unix_s=expires_s)
        write_lease(self.outside, lease)

    def start(self, *arguments: str, grace_s: float = 60.0) -> None:
        """Returns once it listens."""
        given = ["--directory", str(self.inside), "--contained", "--idle-timeout-s", "0"]
        given += ["--lease-grace-s", str(grace_s), "--log-file", f"{self.inside}/remote.log"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raygym.runtimes", "gym-core", *given, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline_s = time.monotonic() + WAIT_S
        while not (self.outside / "ready.json").exists():
            assert self._process.poll() is None, self.printed()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def exit_code(self) -> int:
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def printed(self) -> str:
        """Returns what it printed until its end."""
        assert self._process is not None
        return self._process.communicate(timeout=WAIT_S)[1].decode()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=WAIT_S)


@pytest.fixture
def contained() -> Iterator[Contained]:
    root = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    made = Contained(root)
    yield made
    made.close()
    shutil.rmtree(root, ignore_errors=True)


def test_socket_and_memory_are_found_where_the_client_has_the_directory(contained):
    contained.lease(600)
    contained.start("--any-env")
    endpoint = Endpoint(path=str(contained.outside / "rpc.sock"))
    session = open_session(Access(endpoint=endpoint), timeout_s=WAIT_S)
    assert type(session._channel).__name__ == "FramedChannel"
    session.make(MakeOptions(env_id="CartPole-v1", count=1000), timeout_s=WAIT_S)
    assert session.reset(timeout_s=WAIT_S).is_borrowed
    assert list(contained.outside.glob("memory-*"))
    session.close()
    deadline_s = time.monotonic() + WAIT_S
    while list(contained.outside.glob("memory-*")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_when_the_lease_is_over_it_ends_and_leaves_its_log_alone(contained, mode):
    contained.lease(600)
    contained.start("--any-env", "--mode", mode)
    contained.lease(-1.0)
    assert contained.exit_code() == 0
    assert [path.name for path in contained.outside.iterdir()] == ["remote.log"]
    log = (contained.outside / "remote.log").read_text()
    assert "lease.over" in log


def test_without_any_lease_it_ends_after_the_grace(contained):
    contained.start("--any-env", grace_s=2.0)
    assert contained.exit_code() == 0
    assert "nobody has taken it" in (contained.outside / "remote.log").read_text()


def test_the_log_goes_to_the_file_and_to_standard_error(contained):
    contained.lease(600)
    contained.start("--any-env")
    contained.lease(-1.0)
    printed = contained.printed()
    log = (contained.outside / "remote.log").read_text()
    for said in (printed, log):
        assert said.count("gym_core.ready") == 1
