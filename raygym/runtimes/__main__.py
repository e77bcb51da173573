"""``python -m raygym.runtimes RUNTIME``: serves one Remote in this process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from raygym.errors import ConfigError, RaygymError
from raygym.runtimes.host import EXIT_TASK_BROKEN, HostConfig
from raygym.runtimes.launch import RUNTIMES, make_host

log = logging.getLogger("raygym.runtimes")

EXIT_USAGE = 2
_MAX_PASSWORD_BYTES = 1024
_LOOPBACK = "127.0.0.1"
_GYM_CORE = "gym-core"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raygym.runtimes",
        description="Serves one remote: a screen over VNC, and a reward channel beside it.",
        epilog="Exit codes: 0 stopped or idle, 2 bad arguments, 3 the screen was lost, "
        "4 the environment could not be started.",
    )
    add = parser.add_argument
    add("runtime", choices=[*RUNTIMES, _GYM_CORE], help=f"{_GYM_CORE} has options of its own")
    add("--directory", type=Path, required=True, help="private directory; made if need be")
    add("--password-file", type=Path, help="holds the password of both endpoints")
    add("--password-fd", type=int, help="inherited descriptor to read the password from")
    add("--bind", metavar="HOST", help=f"address for TCP; {_LOOPBACK} by default")
    add("--vnc-port", type=int, help="TCP port of the screen; 0 takes a free one")
    add("--rewarder-port", type=int, help="TCP port of the reward channel; 0 takes a free one")
    add("--env-id", help="play this from the start, without waiting for a client")
    add("--idle-timeout-s", type=float, default=600.0, help="end without a client; 0 never")
    add("--lifeline-fd", type=int, help="inherited pipe; its end means the owner is gone")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _private_directory(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise ConfigError(f"--directory: {directory} belongs to another user")
    directory.chmod(stat.S_IRWXU)
    return directory.resolve()


def _password(arguments: argparse.Namespace, directory: Path) -> str:
    """Returns the password; makes one up where none is given, in ``directory/password``."""
    if arguments.password_file is not None and arguments.password_fd is not None:
        raise ConfigError("give --password-file or --password-fd, not both")
    if arguments.password_fd is not None:
        password = _read_password("--password-fd", arguments.password_fd)
    elif arguments.password_file is not None:
        password = _read_password("--password-file", arguments.password_file)
    else:
        # VNC uses the first eight bytes only, so more would promise too much.
        password = secrets.token_urlsafe(6)
        path = directory / "password"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
    return password


def _read_password(option: str, source: int | Path) -> str:
    try:
        with open(source, "rb") as file:  # noqa: PTH123  a descriptor has no path
            data = file.read(_MAX_PASSWORD_BYTES + 1).strip()
        if not 0 < len(data) <= _MAX_PASSWORD_BYTES:
            raise ConfigError(f"{option}: expected a password of 1 to {_MAX_PASSWORD_BYTES} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        # A decoding error would show what was read.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{option}: no password could be read: {why}") from None


def _config(arguments: argparse.Namespace) -> HostConfig:
    is_tcp = any(
        given is not None for given in (arguments.bind, arguments.vnc_port, arguments.rewarder_port)
    )
    directory = _private_directory(arguments.directory)
    return HostConfig(
        directory=directory,
        password=_password(arguments, directory),
        bind=(arguments.bind or _LOOPBACK) if is_tcp else None,
        rewarder_port=arguments.rewarder_port or 0,
        idle_timeout_s=arguments.idle_timeout_s,
        env_id=arguments.env_id,
        lifeline_fd=arguments.lifeline_fd,
    )


async def _serve(arguments: argparse.Namespace) -> int:
    host = make_host(arguments.runtime, _config(arguments), vnc_port=arguments.vnc_port or 0)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    return await host.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it ends; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser, serve = _parser(), _serve
    if _GYM_CORE in given:
        from raygym.runtimes.gym_core import command

        parser, serve = command.parser(), command.serve
    arguments = parser.parse_args(given)
    logging.basicConfig(
        level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        return asyncio.run(serve(arguments))
    except ConfigError as error:
        print(f"raygym.runtimes: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RaygymError as error:
        log.error("%s: %s", type(error).__name__, error)
        return EXIT_TASK_BROKEN


if __name__ == "__main__":
    sys.exit(main())
