"""Puts a Runtime's Task and Screen together, by name.

What only one Runtime needs is imported for that one, so that the others stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raygym.catalog import Catalog, load_catalog
from raygym.errors import ConfigError
from raygym.runtimes.host import Host, HostConfig

if TYPE_CHECKING:
    from raygym.runtimes.lockstep.limits import RpcConfig
    from raygym.runtimes.lockstep.stage import Stage
    from raygym.runtimes.lockstep_host import LockstepHost, Player
    from raygym.runtimes.xvnc_screen import XvncScreen


def make_host(runtime: str, config: HostConfig, *, vnc_port: int = 0) -> Host:
    """Returns a Host of that Runtime, not yet running. Call it in the host's event loop.

    Args:
        runtime: One of ``RUNTIMES``, or a user's own.
        config: How it serves.
        vnc_port: TCP port of the screen, where ``config.bind`` is given; 0 takes a free one.

    Raises:
        ConfigError: No such Runtime.
        MissingDependency: Something that it needs is not installed.
    """
    catalog = load_catalog()
    if runtime in _MAKERS:
        return _MAKERS[runtime](config, catalog, vnc_port)
    if runtime in catalog.runtimes and catalog.runtime(runtime).task is not None:
        from raygym.runtimes.own import make_own_host

        return make_own_host(runtime, config, vnc_port=vnc_port)
    own = (name for name, known in catalog.runtimes.items() if known.task is not None)
    raise ConfigError(f"unknown runtime {runtime!r}. Known: {', '.join([*RUNTIMES, *own])}")


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

    screen = _xvnc("flashgames", config, catalog, vnc_port)
    return Host(FlashTask(screen, directory=config.directory, catalog=catalog), screen, config)


def _wob(config: HostConfig, catalog: Catalog, vnc_port: int) -> Host:
    from raygym.runtimes.wob.task import WobTask

    screen = _xvnc("wob", config, catalog, vnc_port)
    return Host(WobTask(screen, directory=config.directory, catalog=catalog), screen, config)


def make_lockstep_host(
    runtime: str, config: HostConfig, rpc: RpcConfig, *, vnc_port: int = 0
) -> LockstepHost:
    """Returns a host of that Runtime in lock-step, not yet running. Call it in its event loop.

    Args:
        runtime: ``flashgames`` or ``wob``; gym-core has a command line of its own.
        config: Its directory, screen, idle time and lifeline; ``env_id`` restricts it to one.
        rpc: Where it is stepped.
        vnc_port: See ``make_host``.

    Raises:
        ConfigError: No such Runtime, or none that can be stepped; no such environment.
        MissingDependency: Something that it needs is not installed.
    """
    catalog = load_catalog()
    if runtime not in _STAGES:
        known = " and ".join(_STAGES)
        raise ConfigError(f"{runtime} runs in real time only; {known} can run in lock-step")
    from raygym.runtimes.lockstep.server import LockstepServer
    from raygym.runtimes.lockstep_host import LockstepHost

    # What people who look in do with keys and pointer is none of the environment's business.
    screen = _xvnc(runtime, config, catalog, vnc_port, is_view_only=True)
    page, stage = _STAGES[runtime](screen, config, rpc, catalog)
    server = LockstepServer(stage.open, config=rpc)
    stage.local_socket = server.local_socket
    stage.memory_directory = rpc.memory_directory
    return LockstepHost(
        runtime,
        directory=config.directory,
        screen=screen,
        player=page,
        server=server,
        idle_timeout_s=config.idle_timeout_s,
        lifeline_fd=config.lifeline_fd,
        lease_grace_s=config.lease_grace_s,
    )


def _flash_stage(
    screen: XvncScreen, config: HostConfig, rpc: RpcConfig, catalog: Catalog
) -> tuple[Player, Stage]:
    from raygym.runtimes.flashgames.conversation import FlashStage
    from raygym.runtimes.flashgames.lockstep_page import LockstepPage

    page = LockstepPage(screen, directory=config.directory, catalog=catalog)
    return page, FlashStage(page, **_stage_options(page.games, config, rpc))


def _wob_stage(
    screen: XvncScreen, config: HostConfig, rpc: RpcConfig, catalog: Catalog
) -> tuple[Player, Stage]:
    from raygym.runtimes.wob.conversation import WobStage
    from raygym.runtimes.wob.lockstep_page import WobPage

    page = WobPage(screen, directory=config.directory, catalog=catalog)
    return page, WobStage(page, **_stage_options(page.specs, config, rpc))


def _stage_options(known: Iterable[str], config: HostConfig, rpc: RpcConfig) -> dict[str, Any]:
    return {
        "env_ids": sorted(known) if config.env_id is None else [config.env_id],
        "step_timeout_s": rpc.step_timeout_s,
        "start_timeout_s": rpc.start_timeout_s,
        "max_message_bytes": rpc.max_message_bytes,
    }


def _xvnc(
    runtime: str,
    config: HostConfig,
    catalog: Catalog,
    vnc_port: int,
    *,
    is_view_only: bool = False,
) -> XvncScreen:
    from raygym.runtimes.xvnc_screen import XvncScreen

    width_px, height_px = catalog.runtime(runtime).screen_px
    return XvncScreen(
        config.directory,
        width_px=width_px,
        height_px=height_px,
        password=config.password,
        name=f"raygym {runtime}",
        host=config.bind,
        port=vnc_port,
        is_view_only=is_view_only,
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
    "wob": _wob,
}
_STAGES: Mapping[
    str, Callable[[XvncScreen, HostConfig, RpcConfig, Catalog], tuple[Player, Stage]]
] = {"flashgames": _flash_stage, "wob": _wob_stage}
RUNTIMES = tuple(_MAKERS)
