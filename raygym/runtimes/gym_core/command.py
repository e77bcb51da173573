"""``python -m raygym.runtimes gym-core``: serves Gymnasium environments from this process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raygym.core import Endpoint, Secret
from raygym.errors import ConfigError
from raygym.runtimes.lockstep.limits import RpcConfig
from raygym.runtimes.lockstep.server import LockstepServer
from raygym.runtimes.serve import RUNTIME, make_server

if TYPE_CHECKING:
    from raygym.config import TlsFiles

log = logging.getLogger("raygym.runtimes")

_LOOPBACK = "127.0.0.1"
_PULSE_S = 0.5
_MAX_TOKEN_BYTES = 1024


def parser() -> argparse.ArgumentParser:
    """Returns what reads the command line."""
    made = argparse.ArgumentParser(
        prog=f"python -m raygym.runtimes {RUNTIME}",
        description="Serves Gymnasium environments in lock-step, over gRPC and a unix socket.",
        epilog="Exit codes: 0 stopped or idle, 2 bad arguments, 4 it could not listen.",
    )
    add = made.add_argument
    add("runtime", choices=[RUNTIME])
    add(
        "--env",
        action="append",
        required=True,
        metavar="ID",
        help="an id of Gymnasium's, module:function or file.py:function; several ids may be given",
    )
    add("--directory", type=Path, help="private directory for sockets; made if need be")
    add("--bind", metavar="HOST", help=f"address for gRPC; {_LOOPBACK} by default")
    add("--rpc-port", type=int, help="TCP port of gRPC; 0 takes a free one")
    add("--tls-cert", type=Path, help="certificate chain of this server (PEM)")
    add("--tls-key", type=Path, help="its private key (PEM)")
    add("--tls-ca", type=Path, help="authority that clients' certificates must come from (PEM)")
    add("--token-file", type=Path, help="holds what clients must know")
    add("--insecure", action="store_true", help="allow plaintext beyond this machine")
    add("--max-streams", type=int, default=64, help="most conversations at a time")
    add("--step-timeout-s", type=float, default=60.0, help="longest step of an environment")
    add("--idle-timeout-s", type=float, default=600.0, help="end without a client; 0 never")
    add("--lifeline-fd", type=int, help="inherited pipe; its end means the owner is gone")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return made


async def serve(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop, or idle; returns the exit code.

    Raises:
        ConfigError: An argument makes no sense.
    """
    remote = _Remote(arguments)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, remote.stop, "it was told to stop")
    return await remote.run()


class _Remote:
    """One server, its directory, and what ends it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._env: Sequence[str] = arguments.env
        self._lifeline_fd: int | None = arguments.lifeline_fd
        self._idle_timeout_s: float = arguments.idle_timeout_s
        self._directory = _private_directory(arguments.directory)
        config = _config(arguments, self._directory)
        self._server: LockstepServer = make_server(_only_one(self._env), config)
        self._is_orphan = False
        self._stopped = asyncio.Event()

    def stop(self, reason: str) -> None:
        """Ends ``run``."""
        log.info("gym_core.ending reason=%s", reason)
        self._stopped.set()

    async def run(self) -> int:
        """Serves until it is stopped."""
        watcher = None
        try:
            endpoint = await self._server.start()
            self._write_ready(endpoint)
            self._watch_lifeline()
            watcher = asyncio.create_task(self._watch_idle())
            await self._stopped.wait()
            return 0
        finally:
            if watcher is not None:
                watcher.cancel()
            await self._close()

    async def _close(self) -> None:
        if self._lifeline_fd is not None:
            asyncio.get_running_loop().remove_reader(self._lifeline_fd)
        try:
            await self._server.close()
        finally:
            if self._directory is not None:
                for name in ("ready.json", "token"):
                    (self._directory / name).unlink(missing_ok=True)
                if self._is_orphan:
                    shutil.rmtree(self._directory, ignore_errors=True)

    def _write_ready(self, endpoint: Endpoint) -> None:
        """Says where it listens, in one atomic step."""
        log.info("gym_core.ready rpc=%s envs=%s", endpoint, ",".join(self._env))
        if self._directory is None:
            return
        said = {
            "runtime": RUNTIME,
            "pid": os.getpid(),
            "rpc": str(endpoint),
            "rpc_socket": self._server.local_socket,
            "env_ids": list(self._env),
        }
        part = self._directory / "ready.json.part"
        part.write_text(json.dumps(said), encoding="utf-8")
        part.rename(self._directory / "ready.json")

    def _watch_lifeline(self) -> None:
        fd = self._lifeline_fd
        if fd is None:
            return
        loop = asyncio.get_running_loop()

        def readable() -> None:
            with contextlib.suppress(OSError):
                if os.read(fd, 1):
                    return
            loop.remove_reader(fd)
            self._is_orphan = True
            self.stop("the owner of this remote is gone")

        loop.add_reader(fd, readable)

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


def _private_directory(directory: Path | None) -> Path | None:
    if directory is None:
        return None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise ConfigError(f"--directory: {directory} belongs to another user")
    directory.chmod(stat.S_IRWXU)
    return directory.resolve()


def _config(arguments: argparse.Namespace, directory: Path | None) -> RpcConfig:
    is_tcp = directory is None or arguments.bind is not None or arguments.rpc_port is not None
    return RpcConfig(
        bind=(arguments.bind or _LOOPBACK) if is_tcp else None,
        port=arguments.rpc_port or 0,
        directory=directory,
        token=_token(arguments.token_file, directory, is_tcp=is_tcp),
        tls=_tls(arguments),
        is_insecure=arguments.insecure,
        max_streams=arguments.max_streams,
        step_timeout_s=arguments.step_timeout_s,
    )


def _token(path: Path | None, directory: Path | None, *, is_tcp: bool) -> Secret | None:
    """Returns the token; makes one up for TCP where none is given, in ``directory/token``."""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"--token-file: no token could be read: {why}") from None
        if not (0 < len(text) <= _MAX_TOKEN_BYTES and text.isascii() and text.isprintable()):
            raise ConfigError(
                f"--token-file: expected 1 to {_MAX_TOKEN_BYTES} printable ASCII characters"
            )
        return Secret(text)
    if directory is None or not is_tcp:
        return None
    token = secrets.token_urlsafe(24)
    file = directory / "token"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(token)
    return Secret(token)


def _tls(arguments: argparse.Namespace) -> TlsFiles | None:
    given = (arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    if not any(given):
        return None
    if arguments.tls_cert is None or arguments.tls_key is None:
        raise ConfigError(
            "--tls-cert and --tls-key belong together; `raygym certs init` makes both"
        )
    from raygym.config import TlsFiles

    return TlsFiles(cert=arguments.tls_cert, key=arguments.tls_key, ca=arguments.tls_ca)
