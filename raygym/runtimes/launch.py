"""Puts a Runtime's Task and Screen together, by name."""

from __future__ import annotations

from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.runtimes.catch import CatchTask
from raygym.runtimes.host import Host, HostConfig
from raygym.runtimes.painted_screen import PaintedScreen

RUNTIMES = ("catch", "flashgames")


def make_host(runtime: str, config: HostConfig, *, vnc_port: int = 0) -> Host:
    """Returns a Host of that Runtime, not yet running. Call it in the host's event loop.

    Args:
        runtime: One of ``RUNTIMES``.
        config: How it serves.
        vnc_port: TCP port of the screen, where ``config.bind`` is given; 0 takes a free one.

    Raises:
        ConfigError: No such Runtime.
        MissingDependency: Something that it needs is not installed.
    """
    catalog = load_catalog()
    if runtime not in RUNTIMES:
        raise ConfigError(f"unknown runtime {runtime!r}. Known: {', '.join(RUNTIMES)}")
    width_px, height_px = catalog.runtime(runtime).screen_px
    if runtime == "catch":
        painted = PaintedScreen(
            config.directory,
            width_px=width_px,
            height_px=height_px,
            password=config.password,
            name="raygym catch",
            host=config.bind,
            port=vnc_port,
        )
        return Host(CatchTask(painted, catalog=catalog), painted, config)
    from raygym.runtimes.flashgames.task import FlashTask
    from raygym.runtimes.xvnc_screen import XvncScreen

    screen = XvncScreen(
        config.directory,
        width_px=width_px,
        height_px=height_px,
        password=config.password,
        name="raygym flashgames",
        host=config.bind,
        port=vnc_port,
    )
    return Host(FlashTask(screen, directory=config.directory, catalog=catalog), screen, config)
