"""Puts a Runtime's Task and Screen together, by name.

What only one Runtime needs is imported for that one, so that the others stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raygym.catalog import Catalog, load_catalog
from raygym.errors import ConfigError
from raygym.runtimes.host import Host, HostConfig


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
    if runtime not in _MAKERS:
        raise ConfigError(f"unknown runtime {runtime!r}. Known: {', '.join(RUNTIMES)}")
    return _MAKERS[runtime](config, load_catalog(), vnc_port)


def _catch(config: HostConfig, catalog: Catalog, vnc_port: int) -> Host:
    from raygym.runtimes.catch import CatchTask
    from raygym.runtimes.painted_screen import PaintedScreen

    width_px, height_px = catalog.runtime("catch").screen_px
    screen = PaintedScreen(
        config.directory,
        width_px=width_px,
        height_px=height_px,
        password=config.password,
        name="raygym catch",
        host=config.bind,
        port=vnc_port,
    )
    return Host(CatchTask(screen, catalog=catalog), screen, config)


def _flashgames(config: HostConfig, catalog: Catalog, vnc_port: int) -> Host:
    from raygym.runtimes.flashgames.task import FlashTask
    from raygym.runtimes.xvnc_screen import XvncScreen

    width_px, height_px = catalog.runtime("flashgames").screen_px
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


_MAKERS: Mapping[str, Callable[[HostConfig, Catalog, int], Host]] = {
    "catch": _catch,
    "flashgames": _flashgames,
}
RUNTIMES = tuple(_MAKERS)
