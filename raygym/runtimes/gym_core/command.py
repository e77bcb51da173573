"""``python -m raygym.runtimes gym-core``: serves Gymnasium environments from this process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from raygym.core import Endpoint, Secret
from raygym.errors import ConfigError
from raygym.gym_ids import ANY_ENV, HEADLESS, PREFIX
from raygym.runtimes.host import Host
from raygym.runtimes.launch import make_gym_core_host
from raygym.runtimes.lease_watch import LeaseWatch
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.lockstep.server import LockstepServer
from raygym.runtimes.options import (
    LOOPBACK,
    add_container_options,
    add_password_options,
    add_port_options,
    host_config,
    private_directory,
)
from raygym.runtimes.ownership import READY_FILE, Lifeline, write_ready
from raygym.runtimes.rpc_options import RPC_OPTIONS, add_rpc_options, read_token, rpc_config
from raygym.runtimes.serve import RUNTIME, make_server

T = TypeVar("T")

log = logging.getLogger("raygym.runtimes")

_LOCKSTEP, _REALTIME = "lockstep", "realtime"
_ONLY_IN = {
    _LOCKSTEP: (
        *RPC_OPTIONS,
        "max_streams",
    ),
    _REALTIME: ("password_file", "password_fd", "vnc_port", "rewarder_port", "play"),
}
"""The options of one mode only."""
_LOCKSTEP_STEP_S = 60.0
_REALTIME_STEP_S = 5.0
_MAX_STREAMS = 64
_PULSE_S = 0.5


def parser() -> argparse.ArgumentParser:
    """Returns what reads the command line."""
    made = argparse.ArgumentParser(
        prog=f"python -m raygym.runtimes {RUNTIME}",
        description="Serves Gymnasium environments: in lock-step, over gRPC and a unix socket, "
        "or in real time, as a screen over VNC with a reward channel beside it.",
        epilog="Exit codes: 0 stopped or idle, 2 bad arguments, 4 it could not listen, or the "
        "environment could not be started.",
    )
    add = made.add_argument
    add("runtime", choices=[RUNTIME])
    add("--mode", choices=list(_ONLY_IN), default=_LOCKSTEP, help="who owns time")
    ids = made.add_mutually_exclusive_group(required=True)
    ids.add_argument(
        "--env",
        action="append",
        metavar="ID",
        help="an id of Gymnasium's or of Universe's gym-core; in lock-step also module:function "
        "or file.py:function; several ids may be given",
    )
    ids.add_argument(
        "--any-env",
        action="store_const",
        dest="env",
        const=[ANY_ENV],
        help="whatever id of Gymnasium's a client asks for",
    )
    add("--directory", type=Path, help="private directory for sockets; made if need be")
    add("--bind", metavar="HOST", help=f"address for TCP; {LOOPBACK} by default")
    add(
        "--step-timeout-s", type=float, help="longest step of an environment; 60, or 5 in real time"
    )
    add("--idle-timeout-s", type=float, default=600.0, help="end without a client; 0 never")
    add("--lifeline-fd", type=int, help="inherited pipe; its end means the owner is gone")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    add_container_options(made)
    _add_lockstep(made.add_argument_group("only in lock-step"))
    realtime = made.add_argument_group("only in real time, where --directory is needed")
    add_password_options(realtime)
    add_port_options(realtime)
    realtime.add_argument(
        "--play", action="store_true", help="play from the start, without waiting for a client"
    )
    return made


def _add_lockstep(group: argparse._ArgumentGroup) -> None:
    add_rpc_options(group)
    group.add_argument(
        "--max-streams", type=int, help=f"most conversations at a time; {_MAX_STREAMS}"
    )


async def serve(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop, or idle; returns the exit code.

    Raises:
        ConfigError: An argument makes no sense.
    """
    _check(arguments)
    loop = asyncio.get_running_loop()
    if arguments.mode == _REALTIME:
        host = _host(arguments)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, host.stop)
        return await host.run()
    remote = _Remote(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, remote.stop, "it was told to stop")
    return await remote.run()


def _check(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for an option of the other mode."""
    other = _REALTIME if arguments.mode == _LOCKSTEP else _LOCKSTEP
    for name in _ONLY_IN[other]:
        # 0 is a port, and equals False.
        if getattr(arguments, name) is not None and getattr(arguments, name) is not False:
            raise ConfigError(
                f"--{name.replace('_', '-')} belongs to --mode {other}, and this is --mode "
                f"{arguments.mode}"
            )
    if arguments.mode == _REALTIME and arguments.directory is None:
        raise ConfigError("--directory: real time needs a private directory")
    if arguments.lease_grace_s is not None and arguments.directory is None:
        raise ConfigError("--lease-grace-s: the lease is looked for in --directory; give one")
    if arguments.mode == _REALTIME and arguments.play and arguments.env == [ANY_ENV]:
        raise ConfigError("--play: say what, with --env")


def _host(arguments: argparse.Namespace) -> Host:
    for name, value in HEADLESS.items():
        os.environ.setdefault(name, value)
    first = PREFIX + arguments.env[0].removeprefix(PREFIX)
    return make_gym_core_host(
        host_config(arguments, env_id=first if arguments.play else None),
        arguments.env,
        vnc_port=arguments.vnc_port or 0,
        step_timeout_s=_or(arguments.step_timeout_s, _REALTIME_STEP_S),
    )


class _Remote:
    """One server, its directory, and what ends it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._env: Sequence[str] = arguments.env
        self._lifeline_fd: int | None = arguments.lifeline_fd
        self._idle_timeout_s: float = arguments.idle_timeout_s
        given: Path | None = arguments.directory
        self._directory = None if given is None else private_directory(given)
        config = _config(arguments, self._directory)
        self._server: LockstepServer = make_server(_only_one(self._env), config)
        self._lifeline: Lifeline | None = None
        self._lease_grace_s: float | None = arguments.lease_grace_s
        self._lease_watch: LeaseWatch | None = None
        self._stopped = asyncio.Event()

    def stop(self, reason: str) -> None:
        """Ends ``run``."""
        log.info("gym_core.ending reason=%s", reason)
        self._stopped.set()

    async def run(self) -> int:
        """Serves until it is stopped."""
        watcher = None
        if self._directory is not None:
            self._lease_watch = LeaseWatch(self._directory, self._lease_grace_s, self.stop)
        try:
            endpoint = await self._server.start()
            self._write_ready(endpoint)
            self._lifeline = Lifeline(
                self._lifeline_fd, lambda: self.stop("the owner of this remote is gone")
            )
            watcher = asyncio.create_task(self._watch_idle())
            await self._stopped.wait()
            return 0
        finally:
            if watcher is not None:
                watcher.cancel()
            await self._close()

    async def _close(self) -> None:
        is_orphan = self._lifeline is not None and self._lifeline.is_gone
        if self._lifeline is not None:
            self._lifeline.close()
        try:
            await self._server.close()
        finally:
            if self._directory is not None:
                for name in (READY_FILE, "token"):
                    (self._directory / name).unlink(missing_ok=True)
                if is_orphan:
                    shutil.rmtree(self._directory, ignore_errors=True)
            if self._lease_watch is not None:
                self._lease_watch.close()

    def _write_ready(self, endpoint: Endpoint) -> None:
        log.info("gym_core.ready rpc=%s envs=%s", endpoint, ",".join(self._env))
        if self._directory is None:
            return
        write_ready(
            self._directory,
            {
                "runtime": RUNTIME,
                "rpc": str(endpoint),
                "rpc_socket": self._server.local_socket,
                "env_ids": list(self._env),
            },
        )

    async def _watch_idle(self) -> None:
        loop = asyncio.get_running_loop()
        used_s = loop.time()
        while True:
            await asyncio.sleep(_PULSE_S)
            if self._server.streams:
                used_s = loop.time()
            elif self._idle_timeout_s and loop.time() - used_s >= self._idle_timeout_s:
                self.stop(f"no client for {self._idle_timeout_s:g} s")
                return


def _only_one(env: Sequence[str]) -> str | Sequence[str]:
    return env[0] if len(env) == 1 else env


def _config(arguments: argparse.Namespace, directory: Path | None) -> RpcConfig:
    is_tcp = directory is None or arguments.bind is not None or arguments.rpc_port is not None
    return rpc_config(
        arguments,
        directory,
        is_tcp=is_tcp,
        token=_token(arguments.token_file, directory, is_tcp=is_tcp),
        max_streams=_or(arguments.max_streams, _MAX_STREAMS),
        step_timeout_s=_or(arguments.step_timeout_s, _LOCKSTEP_STEP_S),
    )


def _or(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given


def _token(path: Path | None, directory: Path | None, *, is_tcp: bool) -> Secret | None:
    """Returns the token; makes one up for TCP where none is given, in ``directory/token``."""
    if path is not None:
        return read_token(path)
    if directory is None or not is_tcp:
        return None
    token = secrets.token_urlsafe(24)
    file = directory / "token"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(token)
    return Secret(token)
