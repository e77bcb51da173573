from __future__ import annotations

import pytest

from raygym.runtimes import __main__ as module
from raygym.runtimes.gym_core import command
from raygym.runtimes.host import HostConfig


@pytest.fixture
def served(monkeypatch):
    """What was about to be served in real time."""
    found = {}

    class Nothing:
        def stop(self):
            raise AssertionError

        async def run(self):
            return 0

    def make(config, env_ids, **settings):
        found.update(config=config, env_ids=env_ids, **settings)
        return Nothing()

    monkeypatch.setattr(command, "make_gym_core_host", make)
    return found


def run(*arguments: object) -> int:
    return module.main(["gym-core", *(str(argument) for argument in arguments)])


def test_real_time_serves_unix_sockets_in_a_private_directory(served, tmp_path):
    assert run("--mode", "realtime", "--env", "CartPole-v1", "--directory", tmp_path / "d") == 0
    config = served["config"]
    assert isinstance(config, HostConfig)
    assert (config.directory, config.bind, config.env_id) == (tmp_path / "d", None, None)
    assert (tmp_path / "d" / "password").read_text() == config.password
    assert served["env_ids"] == ["CartPole-v1"]


def test_real_time_s_ports_password_and_timeout_are_taken(served, tmp_path):
    (tmp_path / "secret").write_text("hunter22")
    run(
        *("--mode", "realtime", "--env", "A-v0", "--env", "gym-core.B-v0"),
        *("--directory", tmp_path, "--password-file", tmp_path / "secret"),
        *("--vnc-port", 0, "--rewarder-port", 7, "--step-timeout-s", 2.5, "--play"),
    )
    config = served["config"]
    assert (config.password, config.bind, config.rewarder_port) == ("hunter22", "127.0.0.1", 7)
    assert config.env_id == "gym-core.A-v0"
    assert (served["step_timeout_s"], served["vnc_port"]) == (2.5, 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--mode", "realtime"], "--directory"),
        (["--mode", "realtime", "--directory", "d", "--tls-cert", "x"], "--mode lockstep"),
        (["--mode", "realtime", "--directory", "d", "--insecure"], "--insecure belongs"),
        (["--mode", "realtime", "--directory", "d", "--rpc-port", "0"], "--rpc-port belongs"),
        (["--directory", "d", "--vnc-port", "0"], "--vnc-port belongs to --mode realtime"),
        (["--play"], "--play belongs to --mode realtime"),
    ],
)
def test_an_option_of_the_other_mode_is_refused(
    served, tmp_path, monkeypatch, capsys, arguments, complaint
):
    monkeypatch.chdir(tmp_path)
    assert run("--env", "CartPole-v1", *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert not served


def test_an_unknown_environment_is_one_clear_line_and_exit_2(tmp_path, capsys):
    assert run("--mode", "realtime", "--env", "Nope-v0", "--directory", tmp_path) == 2
    assert "unknown environment gym-core.Nope-v0" in capsys.readouterr().err


def test_help_tells_the_modes_options_apart(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    options = capsys.readouterr().out.partition("options:")[2]
    common, _, rest = options.partition("only in lock-step:")
    lockstep, _, realtime = rest.partition("only in real time")
    for part, option in ((common, "--mode"), (lockstep, "--rpc-port"), (realtime, "--vnc-port")):
        assert option in part


def test_any_environment_can_be_served_in_real_time(served, tmp_path):
    run("--mode", "realtime", "--any-env", "--directory", tmp_path, "--lease-grace-s", 7)
    assert served["env_ids"] == ["*"]
    assert served["config"].lease_grace_s == 7.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--any-env", "--env", "CartPole-v1"], "not allowed with argument"),
        ([], "one of the arguments --env --any-env is required"),
    ],
)
def test_any_and_some_do_not_go_together(served, capsys, arguments, complaint):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert complaint in capsys.readouterr().err


def test_nothing_is_played_from_the_start_where_nobody_said_what(served, tmp_path, capsys):
    assert run("--mode", "realtime", "--any-env", "--play", "--directory", tmp_path) == 2
    assert "--play: say what" in capsys.readouterr().err


def test_a_lease_needs_a_directory_to_be_looked_for_in(capsys):
    assert run("--any-env", "--lease-grace-s", 5) == 2
    assert "--lease-grace-s" in capsys.readouterr().err


def test_a_log_file_that_cannot_be_opened_is_refused(served, tmp_path, capsys):
    log = tmp_path / "none" / "remote.log"
    assert run("--any-env", "--log-file", log) == 2
    assert "--log-file" in capsys.readouterr().err
