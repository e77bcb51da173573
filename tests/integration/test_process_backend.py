from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.errors import MissingDependency, RemoteFailedToStart
from raygym.remote_env.process_backend import ProcessBackend, parse_endpoint
from tests.compliance.backend import BackendCompliance, accepts

STUB = (sys.executable, "-S", "-E", str(Path(__file__).parents[1] / "support/stub_remote.py"))


def ends(pid: int, timeout_s: float = 5.0) -> bool:
    """Waits until a process is gone, or a zombie."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def private_tmp(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.mktemp("d")
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


@pytest.fixture
def make(private_tmp: Path) -> Iterator[Callable[..., ProcessBackend]]:
    made: list[ProcessBackend] = []

    def build(**kwargs: object) -> ProcessBackend:
        made.append(ProcessBackend(**{"command": STUB, "start_timeout_s": 20.0, **kwargs}))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for backend in made:
        backend.close()


class TestProcessBackend(BackendCompliance):
    @pytest.fixture
    def backend(self, make: Callable[..., ProcessBackend]) -> ProcessBackend:  # type: ignore[override]
        return make()


def test_a_remote_has_a_directory_of_its_own_that_nobody_else_reads(
    make: Callable[..., ProcessBackend],
) -> None:
    backend = make()
    remote = backend.start("stub", client_id="c")
    directory = backend.directory(remote.id)
    assert directory.stat().st_mode & 0o077 == 0
    assert remote.password is not None
    assert remote.password.reveal() == "open-sesame"
    backend.remove(remote.id)
    assert not directory.exists()


def test_its_output_is_its_log_and_arguments_are_passed_on(
    make: Callable[..., ProcessBackend],
) -> None:
    backend = make(arguments=("--note", "hello"))
    remote = backend.start("stub", client_id="c")
    assert backend.log_tail(remote.id).splitlines() == ["behaviour stub hello"]


def test_one_that_crashes_is_noticed_at_once_and_leaves_its_log_and_nothing_else(
    make: Callable[..., ProcessBackend], private_tmp: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(RemoteFailedToStart, match="no display could be opened") as caught:
        make(start_timeout_s=60.0).start("crash", client_id="c")
    assert time.monotonic() - began < 20
    assert "exit code 1" in str(caught.value)
    assert list(private_tmp.iterdir()) == []


def test_one_that_never_listens_is_given_up_and_removed(
    make: Callable[..., ProcessBackend], private_tmp: Path
) -> None:
    backend = make(start_timeout_s=0.5)
    with pytest.raises(RemoteFailedToStart, match=r"did not listen within 0\.5 s"):
        backend.start("mute", client_id="c")
    assert list(private_tmp.iterdir()) == []
    assert list(backend.list()) == []


def test_a_missing_program_is_told_as_such(make: Callable[..., ProcessBackend]) -> None:
    with pytest.raises(MissingDependency, match=r"^Xvnc is absent"):
        make().start("missing", client_id="c")


def test_a_command_that_does_not_exist_leaves_no_directory(
    make: Callable[..., ProcessBackend], private_tmp: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        make(command=("/no/such/program",)).start("stub", client_id="c")
    assert list(private_tmp.iterdir()) == []


def test_one_that_ignores_the_request_to_end_is_killed_with_its_children(
    make: Callable[..., ProcessBackend],
) -> None:
    backend = make(stop_timeout_s=0.3)
    remote = backend.start("stubborn", client_id="c")
    child = int((backend.directory(remote.id) / "child").read_text())
    pid = backend.pid(remote.id)
    backend.remove(remote.id)
    assert ends(pid)
    assert ends(child)


def test_one_whose_process_ended_is_not_listed(make: Callable[..., ProcessBackend]) -> None:
    backend = make()
    remote = backend.start("stub", client_id="c")
    pid = backend.pid(remote.id)
    os.kill(pid, 9)
    assert ends(pid)
    assert list(backend.list()) == []


def test_a_killed_owner_takes_its_remotes_along(private_tmp: Path) -> None:
    program = (
        "import sys\n"
        "from raygym.remote_env.process_backend import ProcessBackend\n"
        f"backend = ProcessBackend(command={STUB!r})\n"
        "remote = backend.start('stub', client_id='c')\n"
        "print(backend.pid(remote.id), flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(private_tmp)},
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    assert ends(pid)
    assert len(list(private_tmp.iterdir())) == 1
    ProcessBackend().close()
    assert list(private_tmp.iterdir()) == []


def test_a_new_backend_leaves_the_directories_of_the_living_alone(
    make: Callable[..., ProcessBackend],
) -> None:
    remote = make().start("stub", client_id="c")
    make()
    assert accepts(remote.vnc)


def test_remotes_end_with_the_interpreter(private_tmp: Path) -> None:
    program = (
        "from raygym.remote_env.process_backend import ProcessBackend\n"
        f"backend = ProcessBackend(command={STUB!r})\n"
        "remote = backend.start('stub', client_id='c')\n"
        "print(backend.pid(remote.id), backend.directory(remote.id))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    pid, directory = done.stdout.split()
    assert ends(int(pid))
    assert not Path(directory).exists()


def test_a_closed_backend_starts_nothing(
    make: Callable[..., ProcessBackend], private_tmp: Path
) -> None:
    backend = make()
    backend.close()
    with pytest.raises(RemoteFailedToStart, match="closed"):
        backend.start("stub", client_id="c")
    assert list(private_tmp.iterdir()) == []


def test_a_temporary_directory_too_long_for_sockets_is_passed_over(
    make: Callable[..., ProcessBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    remote = make().start("stub", client_id="c")
    assert accepts(remote.vnc)
    assert list(long.iterdir()) == []


@pytest.mark.parametrize("text", ["unix:/run/x/vnc.sock", "127.0.0.1:5900", "host:1"])
def test_an_endpoint_is_read_as_it_is_written(text: str) -> None:
    assert str(parse_endpoint(text)) == text


def test_an_ipv6_endpoint_is_read_with_its_brackets() -> None:
    assert parse_endpoint("[::1]:5900").host == "::1"


def test_an_endpoint_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_endpoint("host:")


def test_one_that_names_endpoints_nobody_can_read_is_refused(
    make: Callable[..., ProcessBackend], private_tmp: Path
) -> None:
    with pytest.raises(RemoteFailedToStart, match=r"ready\.json that makes no sense"):
        make().start("garble", client_id="c")
    assert list(private_tmp.iterdir()) == []
