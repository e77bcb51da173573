from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from raygym.runtimes import __main__ as module
from raygym.runtimes.host import HostConfig


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, HostConfig, int]]:
    """What was about to be served."""
    found: list[tuple[str, HostConfig, int]] = []

    class Nothing:
        def stop(self) -> None:
            raise AssertionError

        async def run(self) -> int:
            return 0

    def make_host(runtime: str, config: HostConfig, *, vnc_port: int) -> Nothing:
        found.append((runtime, config, vnc_port))
        return Nothing()

    monkeypatch.setattr(module, "make_host", make_host)
    return found


def config(served, directory: Path, *arguments: str) -> HostConfig:
    assert module.main(["catch", "--directory", str(directory), *arguments]) == 0
    return served[-1][1]


def test_it_serves_unix_sockets_in_a_private_directory_with_a_password_of_its_own(served, tmp_path):
    directory = tmp_path / "a" / "b"
    made = config(served, directory)
    assert (made.directory, made.bind) == (directory, None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    password = directory / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert made.password == password.read_text()
    assert len(made.password) == 8


def test_a_directory_that_others_could_read_is_made_private(served, tmp_path):
    tmp_path.chmod(0o755)
    config(served, tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_each_run_makes_up_another_password(served, tmp_path):
    assert config(served, tmp_path).password != config(served, tmp_path).password


def test_a_password_comes_from_a_file(served, tmp_path):
    (tmp_path / "secret").write_text("open-sesame\n")
    made = config(served, tmp_path / "d", "--password-file", str(tmp_path / "secret"))
    assert made.password == "open-sesame"
    assert not (tmp_path / "d" / "password").exists()


def test_a_password_comes_from_an_inherited_descriptor(served, tmp_path):
    read, write = os.pipe()
    os.write(write, b"open-sesame")
    os.close(write)
    assert config(served, tmp_path, "--password-fd", str(read)).password == "open-sesame"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * 1025, b"\xff\xfe-secret-", None])
def test_what_is_no_password_is_refused_without_showing_it(served, tmp_path, capsys, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    arguments = ["catch", "--directory", str(tmp_path), "--password-file", str(path)]
    assert module.main(arguments) == 2
    said = capsys.readouterr().err
    assert "--password-file: " in said
    assert "secret" not in said
    assert "xxx" not in said
    assert served == []


def test_two_passwords_are_one_too_many(served, tmp_path, capsys):
    given = ["--password-file", "x", "--password-fd", "0"]
    assert module.main(["catch", "--directory", str(tmp_path), *given]) == 2
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "bind", "vnc_port", "rewarder_port"),
    [
        ((), None, 0, 0),
        (("--vnc-port", "0"), "127.0.0.1", 0, 0),
        (("--rewarder-port", "0"), "127.0.0.1", 0, 0),
        (("--vnc-port", "5900", "--rewarder-port", "15900"), "127.0.0.1", 5900, 15900),
        (("--bind", "192.0.2.1"), "192.0.2.1", 0, 0),
    ],
)
def test_tcp_is_served_where_it_is_asked_for_and_on_loopback_unless_told_otherwise(
    served, tmp_path, arguments, bind, vnc_port, rewarder_port
):
    made = config(served, tmp_path, *arguments)
    assert (made.bind, served[-1][2], made.rewarder_port) == (bind, vnc_port, rewarder_port)


def test_the_rest_is_passed_on(served, tmp_path):
    arguments = ("--env-id", "test.Catch-v0", "--idle-timeout-s", "5", "--lifeline-fd", "9")
    made = config(served, tmp_path, *arguments)
    assert (made.env_id, made.idle_timeout_s, made.lifeline_fd) == ("test.Catch-v0", 5.0, 9)
    assert served[-1][0] == "catch"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["catch"],
        ["catch", "--directory", "x", "--password", "p"],
        ["catch", "--directory", "x", "--vnc-port", "many"],
    ],
)
def test_arguments_that_make_no_sense_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        module.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m raygym.runtimes" in capsys.readouterr().err


def test_a_runtime_that_nobody_knows_is_refused_with_those_that_are_known(tmp_path, capsys):
    assert module.main(["tetris", "--directory", str(tmp_path)]) == 2
    assert "unknown runtime 'tetris'. Known: catch, flashgames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--idle-timeout-s", "-1"], "idle_timeout_s"), (["--env-id", "test.Throw-v0"], "Throw")],
)
def test_settings_that_make_no_sense_are_named(tmp_path, capsys, arguments, named):
    assert module.main(["catch", "--directory", str(tmp_path), *arguments]) == 2
    assert named in capsys.readouterr().err


def test_the_directory_of_somebody_else_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert module.main(["catch", "--directory", str(tmp_path)]) == 2
    assert "belongs to another user" in capsys.readouterr().err


@pytest.fixture
def stepped(monkeypatch):
    """What was about to be served in lock-step."""
    found = {}

    class Nothing:
        def stop(self) -> None:
            raise AssertionError

        async def run(self) -> int:
            return 0

    def make(runtime, config, rpc, *, vnc_port):
        found.update(runtime=runtime, config=config, rpc=rpc, vnc_port=vnc_port)
        return Nothing()

    monkeypatch.setattr(module, "make_lockstep_host", make)
    return found


def step(directory: Path, *arguments: str) -> int:
    given = ["flashgames", "--mode", "lockstep", "--directory", str(directory), *arguments]
    return module.main(given)


def test_lockstep_serves_unix_sockets_in_the_private_directory(stepped, tmp_path):
    assert step(tmp_path, "--env", "flashgames.NeonRace-v0", "--step-timeout-s", "3") == 0
    rpc = stepped["rpc"]
    assert (rpc.bind, rpc.directory, rpc.token, rpc.step_timeout_s) == (None, tmp_path, None, 3.0)
    assert stepped["config"].env_id == "flashgames.NeonRace-v0"


def test_lockstep_over_tcp_asks_for_the_password_or_a_token(stepped, tmp_path):
    assert step(tmp_path, "--rpc-port", "0", "--vnc-port", "0") == 0
    rpc, config = stepped["rpc"], stepped["config"]
    assert (rpc.bind, rpc.port, config.bind) == ("127.0.0.1", 0, "127.0.0.1")
    assert rpc.token.reveal() == config.password
    (tmp_path / "token").write_text("open sesame\n")
    assert step(tmp_path, "--bind", "127.0.0.1", "--token-file", str(tmp_path / "token")) == 0
    assert stepped["rpc"].token.reveal() == "open sesame"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rewarder-port", "0"], "--rewarder-port does not belong to --mode lockstep"),
        (["--bind", "0.0.0.0"], "nothing would be encrypted"),
        (["--tls-cert", "x"], "--tls-key"),
    ],
)
def test_lockstep_refuses_what_makes_no_sense(tmp_path, capsys, arguments, complaint):
    assert step(tmp_path, *arguments) == module.EXIT_USAGE
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_real_time_refuses_options_of_lockstep(served, tmp_path, capsys):
    assert module.main(["catch", "--directory", str(tmp_path), "--insecure"]) == module.EXIT_USAGE
    assert "--insecure does not belong to --mode realtime" in capsys.readouterr().err
    assert not served


def test_what_only_runs_in_real_time_is_not_served_in_lockstep(tmp_path, capsys):
    given = ["catch", "--mode", "lockstep", "--directory", str(tmp_path)]
    assert module.main(given) == module.EXIT_USAGE
    assert "catch runs in real time only" in capsys.readouterr().err
