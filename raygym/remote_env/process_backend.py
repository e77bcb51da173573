"""Remotes as processes of this machine, behind unix sockets in a private directory."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError, MissingDependency, RemoteFailedToStart
from raygym.remote_env.plain_backend import PlainBackend
from raygym.remote_env.private_directory import claim, make_private_directory, remove, sweep

logger = logging.getLogger(__name__)

_POLL_S = 0.01
_MISSING = "MissingDependency:"
_EXIT_USAGE = 2
_COMPLAINT = "raygym.runtimes: "


@dataclass
class _Running:
    """One process with all that belongs to it."""

    remote: Remote | None
    directory: Path
    process: subprocess.Popen[bytes]
    lifeline: int
    claim: int


class ProcessBackend(PlainBackend):
    """Starts Remotes as processes of this machine.

    Each has a private directory with its sockets, password and log. A pipe that only this
    process holds tells it when its owner is gone, whatever the way it went.

    Args:
        start_timeout_s: Longest wait for a Remote to name its endpoints.
        stop_timeout_s: How long a Remote may take to end before it is killed.
        arguments: More of the command line of ``python -m raygym.runtimes``.
        command: The program to run instead of it; it is given the same arguments.
    """

    def __init__(
        self,
        *,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 5.0,
        arguments: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "raygym.runtimes"),
    ) -> None:
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._arguments = tuple(arguments)
        self._command = tuple(command)
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._owner_pid = os.getpid()
        self._is_closed = False
        atexit.register(self.close)
        sweep()

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Starts a Remote and returns once it listens.

        Args:
            runtime: Name of its Runtime.
            client_id: On whose behalf; it stands in the log only.

        Raises:
            RemoteFailedToStart: It ended or did not listen in time; ends with its log.
            MissingDependency: A program that the runtime needs is absent.
            ConfigError: The Remote refused its arguments.
        """
        remote_id = f"r-{secrets.token_hex(3)}"
        running = self._spawn(runtime, remote_id)
        try:
            running.remote = self._await_ready(running, runtime, remote_id)
        except BaseException:
            self.remove(remote_id)
            raise
        logger.info("started %s (%s) for %s", remote_id, runtime, client_id)
        return running.remote

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes whose processes run."""
        with self._lock:
            running = list(self._running.values())
        return [r.remote for r in running if r.remote is not None and r.process.poll() is None]

    def remove(self, remote_id: str) -> None:
        """Ends a Remote: SIGTERM, a bounded wait, SIGKILL to its group, directory removed."""
        with self._lock:
            running = self._running.pop(remote_id, None)
        if running is None:
            return
        os.close(running.lifeline)
        _end(running.process, self._stop_timeout_s)
        remove(running.directory)
        os.close(running.claim)

    def release(self, remote_id: str) -> None:
        """Does as ``remove``: nobody else could find it again."""
        self.remove(remote_id)

    def holds(self, remote_id: str) -> bool:
        """Returns whether it was given out and not taken back."""
        with self._lock:
            return remote_id in self._running

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns the end of a Remote's log, or an empty string if there is none."""
        with self._lock:
            running = self._running.get(remote_id)
        return "" if running is None else _tail(running.directory / "remote.log", lines)

    def directory(self, remote_id: str) -> Path:
        """Returns the private directory of a Remote; raises KeyError for an unknown id."""
        with self._lock:
            return self._running[remote_id].directory

    def pid(self, remote_id: str) -> int:
        """Returns the process id of a Remote; raises KeyError for an unknown id."""
        with self._lock:
            return self._running[remote_id].process.pid

    def close(self) -> None:
        """Removes every Remote; also runs when the interpreter ends. May be called twice."""
        if os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.close)
        with self._lock:
            self._is_closed = True
            remote_ids = list(self._running)
        enders = [threading.Thread(target=self.remove, args=(r,)) for r in remote_ids]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join(self._stop_timeout_s + 10)

    def _spawn(self, runtime: str, remote_id: str) -> _Running:
        directory = make_private_directory()
        with contextlib.ExitStack() as on_error:
            on_error.callback(remove, directory)
            claimed = claim(directory)
            on_error.callback(os.close, claimed)
            read_end, write_end = os.pipe()
            on_error.callback(os.close, write_end)
            try:
                process = self._run(runtime, directory, read_end)
            finally:
                os.close(read_end)
            on_error.pop_all()
        running = _Running(None, directory, process, write_end, claimed)
        with self._lock:
            self._running[remote_id] = running
            is_closed = self._is_closed
        if is_closed:
            self.remove(remote_id)
            raise RemoteFailedToStart(f"{remote_id} ({runtime}): its backend is closed")
        return running

    def _run(self, runtime: str, directory: Path, read_end: int) -> subprocess.Popen[bytes]:
        given = ["--directory", str(directory), "--lifeline-fd", str(read_end)]
        with (directory / "remote.log").open("wb") as log:
            return subprocess.Popen(
                [*self._command, runtime, *given, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(read_end,),
                start_new_session=True,
            )

    def _await_ready(self, running: _Running, runtime: str, remote_id: str) -> Remote:
        ready = running.directory / "ready.json"
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            code = running.process.poll()
            if code is None and ready.is_file():
                try:
                    return _remote_from(ready, runtime, remote_id)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    problem = f"wrote a {ready.name} that makes no sense ({error!r})"
                    raise self._failure(problem, running, runtime, remote_id) from error
            if code is not None:
                raise self._failure(f"ended with exit code {code}", running, runtime, remote_id)
            if time.monotonic() > deadline:
                problem = f"did not listen within {self._start_timeout_s:g} s"
                raise self._failure(problem, running, runtime, remote_id)
            time.sleep(_POLL_S)

    def _failure(
        self, problem: str, running: _Running, runtime: str, remote_id: str
    ) -> RemoteFailedToStart | MissingDependency | ConfigError:
        log = _tail(running.directory / "remote.log", 50)
        for line in reversed(log.splitlines()):
            if _MISSING in line:
                return MissingDependency(line.split(_MISSING, 1)[1].strip())
            if running.process.poll() == _EXIT_USAGE and line.startswith(_COMPLAINT):
                return ConfigError(f"{remote_id} ({runtime}): {line.removeprefix(_COMPLAINT)}")
        return RemoteFailedToStart(
            f"{remote_id} ({runtime}) {problem}. Its log ends:\n{log or '(empty)'}",
            remote_id=remote_id,
            log=log,
        )


def _remote_from(ready: Path, runtime: str, remote_id: str) -> Remote:
    said = json.loads(ready.read_text(encoding="utf-8"))
    password_file = ready.with_name("password")
    password = password_file.read_text(encoding="utf-8").strip() if password_file.is_file() else ""
    vnc, rewarder, rpc = (
        parse_endpoint(str(said[kind])) if said.get(kind) else None
        for kind in ("vnc", "rewarder", "rpc")
    )
    return Remote(
        id=remote_id,
        runtime=runtime,
        vnc=vnc,
        rewarder=rewarder,
        rpc=rpc,
        password=Secret(password) if password else None,
    )


def parse_endpoint(text: str) -> Endpoint:
    """Reads an Endpoint as its ``str`` writes it: ``unix:/path`` or ``host:port``."""
    if text.startswith("unix:"):
        return Endpoint(path=text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return Endpoint(host=host.strip("[]"), port=int(port))


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - lines * 500))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(deque(text.splitlines(), maxlen=lines))


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ends a process and its group. It is reaped last, so that its id stays its own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not _has_ended(process.pid):
            time.sleep(_POLL_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def _has_ended(pid: int) -> bool:
    """Returns whether a child has ended, leaving it to be reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
