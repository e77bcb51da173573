"""Questions to an engine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raygym.errors import ConfigError
from raygym.remote_env.docker.engine import Death, Engine
from raygym.remote_env.docker.errors import EngineFailed, MissingImage, NoEngine
from tests.support.fake_engine import FakeEngine
from tests.unit.remote_env.docker.conftest import RUNTIMES


@pytest.fixture
def engine(fake: FakeEngine):
    with Engine(environ={"DOCKER_HOST": fake.address}, timeout_s=10.0) as engine:
        yield engine


def test_without_the_variable_it_is_behind_the_usual_socket():
    assert Engine(environ={}).address == "unix:///var/run/docker.sock"
    assert Engine(environ={"DOCKER_HOST": ""}).is_local


@pytest.mark.parametrize(
    ("address", "is_local", "host"),
    [
        ("unix:///x/docker.sock", True, "127.0.0.1"),
        ("tcp://198.51.100.7:2376", False, "198.51.100.7"),
        ("ssh://somebody@far.example", False, "far.example"),
    ],
)
def test_only_an_engine_behind_a_unix_socket_is_on_this_machine(address, is_local, host):
    engine = Engine(environ={"DOCKER_HOST": address})
    assert (engine.is_local, engine.host) == (is_local, host)


def test_one_that_answers_is_there(engine):
    engine.ping()


def test_one_that_is_not_there_is_missing(tmp_path: Path):
    engine = Engine(environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    with pytest.raises(NoEngine, match="DOCKER_HOST"):
        engine.ping()
    with pytest.raises(NoEngine):
        engine.try_to(lambda client: client.ping())


def test_one_that_never_answers_is_given_up(state: Path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(state / "s"))
        silent.listen()
        engine = Engine(environ={"DOCKER_HOST": f"unix://{state}/s"}, timeout_s=0.05)
        with pytest.raises(EngineFailed, match="did not answer in time"):
            engine.ping()


def test_it_can_be_asked_again_after_it_was_closed(engine):
    engine.ping()
    engine.close()
    engine.close()
    engine.ping()


def test_an_image_that_is_there_is_named(engine):
    assert engine.need_image(RUNTIMES["flashgames"]).startswith("raygym/flashgames:")


def test_an_image_that_is_not_there_says_how_to_get_it(engine, fake):
    fake.images.clear()
    with pytest.raises(MissingImage, match="raygym images build flashgames"):
        engine.need_image(RUNTIMES["flashgames"])
    with pytest.raises(ConfigError, match="bare has no image"):
        engine.need_image(RUNTIMES["bare"])


def test_a_container_that_nobody_saw_end_has_no_death(engine):
    assert engine.death_of("raygym-r-1", since_unix_s=0.0, wait_s=0.0) is None


def test_removing_waits_until_the_container_is_gone(engine, fake):
    engine.remove("raygym-r-1")
    assert engine.inspect("raygym-r-1") is None


def test_a_death_tells_its_exit_code_and_whether_memory_was_short(engine, fake):
    fake.images.add("x/y:1")
    container = engine.ask("making", lambda c: c.api.create_container("x/y:1", name="n"))
    fake.end(fake.find(container["Id"]), 137, is_out_of_memory=True)
    assert engine.death_of("n", since_unix_s=0.0) == Death(137, is_out_of_memory=True)
