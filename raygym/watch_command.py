"""``raygym watch``: the wall of a Ray cluster in a browser."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from raygym.core import Secret
from raygym.errors import ConfigError, MissingDependency

if TYPE_CHECKING:
    from raygym.wall.server import WallConfig

TOKEN_VARIABLE = "RAYGYM_WALL_TOKEN"  # noqa: S105  a name
TAKE_OVER_VARIABLE = "RAYGYM_TAKE_OVER_TOKEN"
_NEW = ""
_JOIN_TIMEOUT_S = 5.0


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Adds the options of ``raygym watch``."""
    verb.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS", "auto"),
        help="of the Ray cluster; by default RAY_ADDRESS, else the one of this machine",
    )
    verb.add_argument(
        "--host", default="127.0.0.1", help="interface to listen on; another needs --token"
    )
    verb.add_argument("--port", type=int, default=8270, help="0 takes a free one")
    verb.add_argument(
        "--token",
        nargs="?",
        const=_NEW,
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"whoever looks must know it; without a value makes one. Also ${TOKEN_VARIABLE}",
    )
    verb.add_argument(
        "--take-over",
        nargs="?",
        const=_NEW,
        default=os.environ.get(TAKE_OVER_VARIABLE),
        metavar="TOKEN",
        help="lets whoever knows this token drive a remote; without a value makes one. "
        f"Also ${TAKE_OVER_VARIABLE}",
    )


def main(arguments: argparse.Namespace, *, say: Callable[[str], None] = print) -> int:
    """Serves the wall until SIGINT or SIGTERM; returns the exit status.

    Args:
        arguments: As ``add_arguments`` reads them.
        say: Told where the wall is.

    Raises:
        ConfigError: No such cluster, the port is taken, or a token is missing.
        MissingDependency: Ray is not installed.
    """
    try:
        import ray

        from raygym.wall import novnc
        from raygym.wall.access import Access, new_token
        from raygym.wall.server import WallConfig
    except ImportError as error:
        raise MissingDependency(
            "the wall takes Ray and aiohttp, which are not installed; pip install 'raygym[train]'"
        ) from error

    def token_of(given: str | None) -> Secret | None:
        if given is None:
            return None
        return new_token() if given == _NEW else Secret(given)

    access = Access(
        arguments.host, token=token_of(arguments.token), take_over=token_of(arguments.take_over)
    )
    _check(arguments.address)
    try:
        ray.init(address=arguments.address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--address {arguments.address}: no Ray cluster answers there: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}. Start a run first, or name its "
            "cluster; one that asks for a token needs RAY_AUTH_MODE=token here, too"
        ) from error
    try:
        if not novnc.is_there():
            say(
                f"noVNC {novnc.VERSION} is not in {novnc.folder()}: full size shows what the "
                f"agent sees, not its screen. To change that: {novnc.COMMAND}"
            )
        asyncio.run(_serve(WallConfig(access=access, port=arguments.port), say))
    finally:
        ray.shutdown()
    return 0


def _check(address: str) -> None:
    """Raises ConfigError where nothing listens; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _JOIN_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"--address {address}: nothing answers there: {error}") from error


async def _serve(config: WallConfig, say: Callable[[str], None]) -> None:
    from raygym.wall.hub import RayHub
    from raygym.wall.screens import RayScreens
    from raygym.wall.server import WallServer

    server = WallServer(RayHub(), RayScreens(), config)
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    await server.start()
    access = config.access
    query = "" if access.token is None else f"?token={access.token.reveal()}"
    say(f"the wall: {server.url}{query}")
    if access.take_over is not None:
        say(f"token for driving: {access.take_over.reveal()}")
    say("Ctrl-C ends it; the run goes on")
    try:
        await done.wait()
    finally:
        await server.stop()
