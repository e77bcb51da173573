"""Programs that end with their owner, whatever way it goes.

A program is started as the leader of a session of its own, so that it can be ended
together with its descendants. Only Linux (``pidfd_open``, ``setpriv``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raygym.errors import MissingDependency

logger = logging.getLogger(__name__)

_FIRST_HIGH_FD = 32
# Whoever dies before setpriv has asked to be told leaves another parent behind.
_GUARD = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
_KILL_WAIT_S = 5.0


class Process:
    """One running program and the descendants in its process group.

    When the program ends, the rest of its group is killed; its exit code is kept.
    Belongs to the event loop that made it.
    """

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._exit_code: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def is_running(self) -> bool:
        """Whether the program itself has not ended yet."""
        return not self._exit_code.done()

    async def wait(self) -> int:
        """Waits for the end; returns the exit code, or minus the signal that ended it."""
        return await asyncio.shield(self._exit_code)

    async def end(self, *, patience_s: float = 2.0) -> None:
        """Ends the whole group: SIGTERM, then SIGKILL after ``patience_s``; returns once done."""
        if self.is_running:
            self._signal_group(signal.SIGTERM)
            await self._wait_at_most(patience_s)
        await self.kill()

    async def kill(self) -> None:
        """Ends the whole group at once."""
        if self.is_running:
            self._signal_group(signal.SIGKILL)
            if not await self._wait_at_most(_KILL_WAIT_S):
                logger.error("process.unkillable name=%s pid=%d", self.name, self.pid)

    async def _wait_at_most(self, timeout_s: float) -> bool:
        done, _ = await asyncio.wait([self._exit_code], timeout=timeout_s)
        return bool(done)

    def _signal_group(self, number: signal.Signals) -> None:
        # Until it is reaped, the leader's id can belong to no other process or group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._signal_group(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        if not self._exit_code.done():
            self._exit_code.set_result(os.waitstatus_to_exitcode(status))


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    fds: Mapping[int, int] | None = None,
    on_owner_death: Literal["KILL", "TERM"] = "KILL",
) -> Process:
    """Starts a program as the leader of its own session.

    Its standard input is empty; its output goes to this process's standard error. Call it
    from the thread of the event loop: the program is told of its owner's death when that
    thread ends.

    Args:
        command: Program and arguments; the program is looked up on the PATH.
        environment: All of its environment variables.
        fds: Descriptors it inherits: its number for each, and which of ours it is.
        on_owner_death: The signal that the program gets when this process dies.

    Raises:
        MissingDependency: The program, or ``setpriv``, is absent.
    """
    owner = str(os.getpid())
    setpriv = find_program("setpriv", package="util-linux")
    # Copies above every number wanted, so that no dup2 overwrites a source of another.
    own = {0: _open_null(), 1: os.dup(2)}
    wanted = {**own, **(fds or {})}
    high = {
        to: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FIRST_HIGH_FD)
        for to, source in wanted.items()
    }
    try:
        pid = os.posix_spawn(
            setpriv,
            [setpriv, "--pdeathsig", on_owner_death, "--", "sh", "-c", _GUARD, owner, *command],
            dict(environment),
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, source, to) for to, source in high.items()),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in {2, *high}),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGTERM, signal.SIGINT],
        )
    finally:
        for fd in (*own.values(), *high.values()):
            os.close(fd)
    return Process(pid, Path(command[0]).name)


def _open_null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _inheritable() -> list[int]:
    """Returns our descriptors that a child would get without being asked."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them is closed by now
            if os.get_inheritable(int(entry.name)):
                found.append(int(entry.name))
    return found


def find_program(name: str, *, package: str) -> str:
    """Returns the path of a program.

    Args:
        name: Its name on the PATH, or a path.
        package: The Debian package that holds it, for the message.

    Raises:
        MissingDependency: There is no such program; says how to get it.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingDependency(
            f"{name}: no such program on the PATH. Install it, on Debian with "
            f"`apt-get install --no-install-recommends {package}`"
            "; `raygym doctor` looks at the rest."
        )
    return path


@dataclass(frozen=True)
class Usage:
    """What the processes of some groups use."""

    pids: tuple[int, ...]
    """Their ids."""
    pss_bytes: int
    """Memory, shared pages divided among those who share them."""
    cpu_s: float
    """Processor time so far of those that still run."""


def usage(*groups: int) -> Usage:
    """Returns what the processes of the given process groups use now."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    pids: list[int] = []
    pss_bytes, ticks = 0, 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            # Fields after the name in parentheses, which may hold blanks: state, ppid, pgrp ...
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) in groups and fields[0] != "Z":
                pids.append(int(entry.name))
                ticks += int(fields[11]) + int(fields[12])
                pss_bytes += _pss_bytes(entry)
    return Usage(tuple(pids), pss_bytes, ticks / ticks_per_s)


def _pss_bytes(process: Path) -> int:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
