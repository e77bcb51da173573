"""What an engine's errors mean."""

from __future__ import annotations

import errno
import pickle

import pytest
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from raygym.errors import ConfigError, MissingDependency, RemoteFailedToStart
from raygym.remote_env.docker.errors import (
    ContainerDied,
    DiskFull,
    EngineFailed,
    EnginePermission,
    MissingImage,
    NoEngine,
    OutOfMemory,
    PortTaken,
    container_death,
    crash_loop,
    engine_error,
    is_gone,
    missing_image,
)

ENGINE = "unix:///var/run/docker.sock"


def api_error(status: int, explanation: str, kind: type[APIError] = APIError) -> APIError:
    response = requests.Response()
    response.status_code = status
    return kind("failed", response=response, explanation=explanation)


def wrapped(error: OSError) -> DockerException:
    """As the SDK wraps what it meets when it connects."""
    inner = requests.exceptions.ConnectionError("Connection aborted.", error)
    return DockerException(f"Error while fetching server API version: {inner}", inner)


@pytest.mark.parametrize(
    ("error", "expected", "remedy"),
    [
        (wrapped(FileNotFoundError(errno.ENOENT, "No such file")), NoEngine, "DOCKER_HOST"),
        (wrapped(PermissionError(errno.EACCES, "Permission denied")), EnginePermission, "-aG"),
        (requests.exceptions.ConnectionError("refused"), NoEngine, "systemctl start"),
        (requests.exceptions.ReadTimeout("read timed out"), EngineFailed, "docker ps"),
        (DockerException("Invalid bind address protocol"), NoEngine, "DOCKER_HOST"),
        (api_error(404, "No such image: x", ImageNotFound), MissingImage, "lacks the image"),
        (api_error(500, "no space left on device"), DiskFull, "docker system df"),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull, "docker system df"),
        (api_error(500, "port is already allocated"), PortTaken, "try"),
        (api_error(400, "bind source path does not exist"), EngineFailed, "publish_ports=True"),
        (api_error(500, "it is broken"), EngineFailed, "it is broken"),
    ],
)
def test_each_has_a_class_of_its_own_and_says_what_to_do(error, expected, remedy):
    found = engine_error(error, engine=ENGINE, doing="creating raygym-r-1")
    assert type(found) is expected
    assert "creating raygym-r-1" in found.message
    assert ENGINE in found.message
    assert remedy in found.message


def test_what_is_absent_is_a_missing_dependency_and_what_broke_is_a_failed_start():
    for kind in (NoEngine, EnginePermission, MissingImage):
        assert issubclass(kind, MissingDependency)
    for kind in (OutOfMemory, ContainerDied, DiskFull, PortTaken):
        assert issubclass(kind, RemoteFailedToStart)


def test_our_own_errors_pass_unchanged():
    ours = ConfigError("x")
    assert engine_error(ours, engine=ENGINE, doing="d") is ours


def test_a_missing_image_names_both_ways_to_get_it():
    found = missing_image("raygym/wob:1", "wob", engine=ENGINE)
    assert "raygym images build wob" in found.message
    assert "raygym images pull wob" in found.message


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (137, "137: it was killed"),
        (139, "SIGSEGV"),
        (130, "signal 2"),
        (77, "see its log"),
        (None, "ended."),
    ],
)
def test_an_exit_code_is_put_into_words_and_the_log_follows(code, meaning):
    found = container_death(
        "r-1", "wob", exit_code=code, is_out_of_memory=False, memory_mib=1, log="last words"
    )
    assert type(found) is ContainerDied
    assert meaning in found.message
    assert found.message.endswith("Its log ends:\nlast words")


def test_out_of_memory_names_the_limit_and_where_it_stands():
    found = container_death(
        "r-1", "wob", exit_code=137, is_out_of_memory=True, memory_mib=512, log=""
    )
    assert type(found) is OutOfMemory
    assert "512 MiB" in found.message
    assert "memory_mib" in found.message
    assert found.message.endswith("(empty)")


def test_errors_survive_pickling_with_what_they_know():
    last = container_death(
        "r-1", "wob", exit_code=4, is_out_of_memory=False, memory_mib=1, log="words"
    )
    loop = pickle.loads(pickle.dumps(crash_loop("wob", deaths=3, wait_s=60.0, last=last)))
    assert (loop.deaths, loop.remote_id, loop.log) == (3, "r-1", "words")


def test_a_container_that_is_being_removed_is_as_good_as_gone():
    assert is_gone(api_error(404, "No such container", NotFound))
    assert is_gone(api_error(409, "removal of container x is already in progress"))
    assert not is_gone(api_error(409, "name in use"))
    assert not is_gone(api_error(404, "No such image", ImageNotFound))
