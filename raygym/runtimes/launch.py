"""Puts a Runtime's Task and Screen together, by name.

What only one Runtime needs is imported for that one, so that the others stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from raygym.catalog import Catalog, load_catalog
from raygym.errors import ConfigError
from raygym.runtimes.host import Host, HostConfig

if TYPE_CHECKING:
    from raygym.runtimes.lockstep.limits import RpcConfig
    from raygym.runtimes.lockstep_host import LockstepHost
    from raygym.runtimes.xvnc_screen import XvncScreen


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

    screen = _xvnc(config, catalog, vnc_port)
    return Host(FlashTask(screen, directory=config.directory, catalog=catalog), screen, config)


def make_lockstep_host(
    runtime: str, config: HostConfig, rpc: RpcConfig, *, vnc_port: int = 0
) -> LockstepHost:
    """Returns a host of that Runtime in lock-step, not yet running. Call it in its event loop.

    Args:
        runtime: ``flashgames``; gym-core has a command line of its own.
        config: Its directory, screen, idle time and lifeline; ``env_id`` restricts it to one.
        rpc: Where it is stepped.
        vnc_port: See ``make_host``.

    Raises:
        ConfigError: No such Runtime, or none that can be stepped; no such environment.
        MissingDependency: Something that it needs is not installed.
    """
    catalog = load_catalog()
    if runtime != "flashgames":
        raise ConfigError(f"{runtime} runs in real time only; flashgames can run in lock-step")
    from raygym.runtimes.flashgames.conversation import FlashStage
    from raygym.runtimes.flashgames.lockstep_page import LockstepPage
    from raygym.runtimes.lockstep.server import LockstepServer
    from raygym.runtimes.lockstep_host import LockstepHost

    screen = _xvnc(config, catalog, vnc_port)
    page = LockstepPage(screen, directory=config.directory, catalog=catalog)
    stage = FlashStage(
        page,
        env_ids=sorted(catalog.games) if config.env_id is None else [config.env_id],
        step_timeout_s=rpc.step_timeout_s,
        start_timeout_s=rpc.start_timeout_s,
        max_message_bytes=rpc.max_message_bytes,
    )
    server = LockstepServer(stage.open, config=rpc)
    stage.local_socket = server.local_socket
    return LockstepHost(
        runtime,
        directory=config.directory,
        screen=screen,
        player=page,
        server=server,
        idle_timeout_s=config.idle_timeout_s,
        lifeline_fd=config.lifeline_fd,
    )


def _xvnc(config: HostConfig, catalog: Catalog, vnc_port: int) -> XvncScreen:
    from raygym.runtimes.xvnc_screen import XvncScreen

    width_px, height_px = catalog.runtime("flashgames").screen_px
    return XvncScreen(
        config.directory,
        width_px=width_px,
        height_px=height_px,
        password=config.password,
        name="raygym flashgames",
        host=config.bind,
        port=vnc_port,
    )


def make_gym_core_host(
    config: HostConfig,
    env_ids: Sequence[str],
    *,
    vnc_port: int = 0,
    step_timeout_s: float = 5.0,
) -> Host:
    """Returns a Host of Gymnasium environments in real time, not yet running.

    Args:
        config: How it serves.
        env_ids: As ``raygym.gym_ids.find`` takes them.
        vnc_port: See ``make_host``.
        step_timeout_s: Longest step, and longest reset, of an environment.

    Raises:
        ConfigError: One of them cannot be played through a screen.
    """
    from raygym.gym_ids import SCREEN_PX
    from raygym.runtimes.gym_core.task import GymCoreTask
    from raygym.runtimes.painted_screen import PaintedScreen

    screen = PaintedScreen(
        config.directory,
        width_px=SCREEN_PX[0],
        height_px=SCREEN_PX[1],
        password=config.password,
        name=f"raygym {' '.join(env_ids)}",
        host=config.bind,
        port=vnc_port,
    )
    return Host(GymCoreTask(screen, env_ids, step_timeout_s=step_timeout_s), screen, config)


_MAKERS: Mapping[str, Callable[[HostConfig, Catalog, int], Host]] = {
    "catch": _catch,
    "flashgames": _flashgames,
}
RUNTIMES = tuple(_MAKERS)
