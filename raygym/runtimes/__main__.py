"""``python -m raygym.runtimes RUNTIME``: serves one Remote in this process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raygym.core import Secret
from raygym.errors import ConfigError, RaygymError
from raygym.runtimes.host import EXIT_TASK_BROKEN, Host, HostConfig
from raygym.runtimes.launch import RUNTIMES, make_host, make_lockstep_host
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.options import (
    LOOPBACK,
    add_container_options,
    add_password_options,
    add_port_options,
    host_config,
    log_to,
)
from raygym.runtimes.rpc_options import RPC_OPTIONS, add_rpc_options, read_token, rpc_config

if TYPE_CHECKING:
    from raygym.runtimes.lockstep_host import LockstepHost

log = logging.getLogger("raygym.runtimes")

EXIT_USAGE = 2
_GYM_CORE = "gym-core"
_REALTIME, _LOCKSTEP = "realtime", "lockstep"
_STEP_TIMEOUT_S = 20.0
_MAX_STREAMS = 64


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raygym.runtimes",
        description="Serves one remote: a screen over VNC, and a reward channel beside it; or in "
        "lock-step, a screen to look at and an environment to step over gRPC.",
        epilog="Exit codes: 0 stopped or idle, 2 bad arguments, 3 the screen was lost, "
        "4 the environment could not be started.",
    )
    add = parser.add_argument
    known = f"{', '.join(RUNTIMES)}, {_GYM_CORE} (with options of its own), or one of your own"
    add("runtime", help=known)
    add("--directory", type=Path, required=True, help="private directory; made if need be")
    add_password_options(parser)
    add("--bind", metavar="HOST", help=f"address for TCP; {LOOPBACK} by default")
    add_port_options(parser)
    add("--mode", choices=[_REALTIME, _LOCKSTEP], default=_REALTIME, help="who owns time")
    add(
        "--env-id",
        "--env",
        metavar="ID",
        help="play this from the start, without waiting for a client; in lock-step: only this",
    )
    add("--idle-timeout-s", type=float, default=600.0, help="end without a client; 0 never")
    add("--lifeline-fd", type=int, help="inherited pipe; its end means the owner is gone")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    add_container_options(parser)
    lockstep = parser.add_argument_group("only in lock-step")
    add_rpc_options(lockstep)
    lockstep.add_argument("--step-timeout-s", type=float, help=f"longest step; {_STEP_TIMEOUT_S:g}")
    return parser


async def _serve(arguments: argparse.Namespace) -> int:
    is_lockstep = arguments.mode == _LOCKSTEP
    _check(arguments, is_lockstep=is_lockstep)
    is_tcp = arguments.rpc_port is not None or None
    config = host_config(arguments, env_id=arguments.env_id, is_tcp=is_tcp)
    vnc_port = arguments.vnc_port or 0
    host: Host | LockstepHost
    if is_lockstep:
        rpc = _rpc_config(arguments, config)
        host = make_lockstep_host(arguments.runtime, config, rpc, vnc_port=vnc_port)
    else:
        host = make_host(arguments.runtime, config, vnc_port=vnc_port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    return await host.run()


def _check(arguments: argparse.Namespace, *, is_lockstep: bool) -> None:
    """Raises ConfigError for an option of the other mode."""
    others = ("rewarder_port",) if is_lockstep else (*RPC_OPTIONS, "step_timeout_s")
    for name in others:
        if not any(getattr(arguments, name) is unset for unset in (None, False)):
            raise ConfigError(
                f"--{name.replace('_', '-')} does not belong to --mode {arguments.mode}"
            )


def _rpc_config(arguments: argparse.Namespace, config: HostConfig) -> RpcConfig:
    is_tcp = config.bind is not None
    token = Secret(config.password) if is_tcp else None
    if arguments.token_file is not None:
        token = read_token(arguments.token_file)
    return rpc_config(
        arguments,
        config.directory,
        is_tcp=is_tcp,
        token=token,
        max_streams=_MAX_STREAMS,
        step_timeout_s=_STEP_TIMEOUT_S
        if arguments.step_timeout_s is None
        else arguments.step_timeout_s,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it ends; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser, serve = _parser(), _serve
    if _GYM_CORE in given:
        from raygym.runtimes.gym_core import command

        parser, serve = command.parser(), command.serve
    arguments = parser.parse_args(given)
    try:
        log_to(arguments.log_file, level=arguments.log_level)
        return asyncio.run(serve(arguments))
    except ConfigError as error:
        print(f"raygym.runtimes: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RaygymError as error:
        log.error("%s: %s", type(error).__name__, error)
        return EXIT_TASK_BROKEN


if __name__ == "__main__":
    sys.exit(main())
