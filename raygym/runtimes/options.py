"""What the command lines of remotes have in common: a private directory, and a password."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import stat
import sys
from pathlib import Path

from raygym.errors import ConfigError
from raygym.runtimes.host import HostConfig
from raygym.runtimes.log_limit import keep_short

LOOPBACK = "127.0.0.1"

_MAX_PASSWORD_BYTES = 1024


def add_password_options(parser: argparse._ActionsContainer) -> None:
    """Adds the options that ``host_config`` reads the password from."""
    parser.add_argument("--password-file", type=Path, help="holds the password of both endpoints")
    parser.add_argument(
        "--password-fd", type=int, help="inherited descriptor to read the password from"
    )


def add_port_options(parser: argparse._ActionsContainer) -> None:
    """Adds the options for TCP ports of a screen and its reward channel."""
    parser.add_argument("--vnc-port", type=int, help="TCP port of the screen; 0 takes a free one")
    parser.add_argument(
        "--rewarder-port", type=int, help="TCP port of the reward channel; 0 takes a free one"
    )


def add_container_options(parser: argparse._ActionsContainer) -> None:
    """Adds the options of a remote in a container of its own."""
    parser.add_argument(
        "--lease-grace-s",
        type=float,
        metavar="S",
        help="end without a lease so long after the start, and when the lease in the directory "
        "runs out",
    )
    parser.add_argument(
        "--contained",
        action="store_true",
        help="clients share the directory with this remote, maybe under another path, and "
        "nothing else",
    )
    parser.add_argument(
        "--log-file", type=Path, help="append the log, and all else that is printed, to this"
    )


def log_to(path: Path | None, *, level: str) -> None:
    """Sends the log to standard error, and to a file where one is given.

    What this process and its children print goes to the file, too, and only there.

    Args:
        path: Of the file; it is appended to, and kept short. None for none.
        level: Least level of what is logged.

    Raises:
        ConfigError: The file cannot be opened.
    """
    handlers: list[logging.Handler] = []
    if path is not None:
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"--log-file: {path}: {error.strerror}") from None
        terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
        handlers.append(logging.StreamHandler(terminal))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file, stream.fileno())
        os.close(file)
        keep_short(path)
    handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", handlers=handlers
    )


def private_directory(directory: Path) -> Path:
    """Makes a directory, or makes one private; returns its full path.

    Raises:
        ConfigError: It belongs to another user.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise ConfigError(f"--directory: {directory} belongs to another user")
    directory.chmod(stat.S_IRWXU)
    return directory.resolve()


def host_config(
    arguments: argparse.Namespace, *, env_id: str | None, is_tcp: bool | None = None
) -> HostConfig:
    """Returns how a Host serves.

    Args:
        arguments: With the options for the directory, password, ports and so on.
        env_id: Played from the start; None waits for a client.
        is_tcp: Whether it listens over TCP; None where an option says so.

    Raises:
        ConfigError: The directory or the password is of no use.
    """
    if is_tcp is None:
        options = (arguments.bind, arguments.vnc_port, arguments.rewarder_port)
        is_tcp = any(given is not None for given in options)
    directory = private_directory(arguments.directory)
    return HostConfig(
        directory=directory,
        password=_password(arguments, directory),
        bind=(arguments.bind or LOOPBACK) if is_tcp else None,
        rewarder_port=arguments.rewarder_port or 0,
        idle_timeout_s=arguments.idle_timeout_s,
        env_id=env_id,
        lifeline_fd=arguments.lifeline_fd,
        lease_grace_s=arguments.lease_grace_s,
    )


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
