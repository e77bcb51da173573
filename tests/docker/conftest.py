"""Tests against a real container engine.

Where RAYGYM_TEST_DOCKER=1 says that there must be one, they fail without it. Elsewhere they
are left out if no engine answers, and the summary says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from raygym import images
from raygym.errors import RaygymError
from raygym.images_engine import connect

VARIABLE = "RAYGYM_TEST_DOCKER"

_HERE = Path(__file__).parent
_TIMEOUT_S = 900
_LEFT_OUT = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)
            if item.get_closest_marker("timeout") is None:
                # The first may have to build an image.
                item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
    wanted = [item for item in items if item.get_closest_marker("docker")]
    if not wanted or os.environ.get(VARIABLE) == "1":
        return
    try:
        connect().close()
    except RaygymError as error:
        config.hook.pytest_deselected(items=wanted)
        items[:] = [item for item in items if item not in wanted]
        config.stash[_LEFT_OUT] = f"{len(wanted)} tests were left out: {error}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    said = config.stash.get(_LEFT_OUT, "")
    if said:
        terminalreporter.section("docker")
        terminalreporter.line(f"{said}. With {VARIABLE}=1 they fail instead.")


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """A client of the engine."""
    client = connect()
    yield client
    client.close()


def current_image(engine: DockerClient, runtime: str) -> str:
    """Returns the name of a runtime's image; builds it if it is not of the code at hand."""
    image = images.look(engine, runtime)
    if not image.is_current:
        (image,) = images.build(engine, [runtime])
    return image.tag


@pytest.fixture(scope="session")
def flashgames_image(engine: DockerClient) -> str:
    """Name of an image of the code at hand."""
    return current_image(engine, "flashgames")


@pytest.fixture(scope="session")
def gym_core_image(engine: DockerClient) -> str:
    """Name of an image of the code at hand."""
    return current_image(engine, "gym-core")


@pytest.fixture(scope="session")
def wob_image(engine: DockerClient) -> str:
    """Name of an image of the code at hand."""
    return current_image(engine, "wob")
