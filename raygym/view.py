"""A port on loopback in front of a Remote's screen, for VNC viewers that know no unix sockets."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from raygym.core import Remote
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.gateway.forwards import Forward

_HOST = "127.0.0.1"


async def serve_view(remote: Remote, *, port: int = 0, say: Callable[[str], None] = print) -> None:
    """Forwards a port on loopback to a Remote's screen until SIGINT or SIGTERM.

    Args:
        remote: Whose screen.
        port: TCP port; 0 takes a free one.
        say: Told how to look.

    Raises:
        ConfigError: The Remote has no screen, or the port is taken.
    """
    vnc = remote.vnc
    if vnc is None:
        raise ConfigError(f"{remote.id} has no screen to look at")
    forward = Forward(vnc, host=_HOST, ports=(port,) if port else ())
    try:
        taken = await forward.start()
    except RemoteFailedToStart as error:
        raise ConfigError(f"--port {port}: cannot listen there: {error.__cause__}") from error
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    say(f"{remote.id}: vncviewer {_HOST}::{taken}")
    if remote.password is not None:
        say(f"password: {remote.password.reveal()}")
    say("Ctrl-C ends it; the remote runs on")
    try:
        await done.wait()
    finally:
        await forward.close()
