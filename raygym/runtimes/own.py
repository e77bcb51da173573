"""Puts a user's own Runtime together: an X screen, and the Task of its ``runtime.yaml``."""

from __future__ import annotations

from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.own_runtimes import task_class
from raygym.runtimes.host import Host, HostConfig
from raygym.runtimes.x_program import XProgram
from raygym.runtimes.xvnc_screen import XvncScreen


def make_own_host(name: str, config: HostConfig, *, vnc_port: int = 0) -> Host:
    """Returns a Host of a user's own Runtime, not yet running.

    Args:
        name: Of the Runtime, in the catalog.
        config: How it serves.
        vnc_port: TCP port of the screen, where ``config.bind`` is given; 0 takes a free one.

    Raises:
        ConfigError: Its class cannot be imported, or is no XProgram.
    """
    catalog = load_catalog()
    runtime = catalog.runtime(name)
    made = task_class(runtime)
    if not (isinstance(made, type) and issubclass(made, XProgram)):
        raise ConfigError(
            f"{name}: the task {runtime.task} must be a class derived from "
            f"raygym.runtimes.x_program.XProgram, got {made!r}"
        )
    width_px, height_px = runtime.screen_px
    screen = XvncScreen(
        config.directory,
        width_px=width_px,
        height_px=height_px,
        password=config.password,
        name=f"raygym {name}",
        host=config.bind,
        port=vnc_port,
    )
    envs = {spec.id: spec for spec in catalog.envs.values() if spec.runtime == name}
    task = made(screen, directory=config.directory, runtime=runtime, envs=envs)
    return Host(task, screen, config)
