"""The parent's side of one child of ProcessSlots: it is spawned, told, heard, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from typing import TypeAlias

import cloudpickle  # type: ignore[import-untyped]

from raygym.errors import ConfigError
from raygym.vector.channel import Channel
from raygym.vector.process_worker import SetUp, Word
from raygym.vector.shared_block import Block
from raygym.vector.slot_record import EnvFactory

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from raygym.vector.process_worker import main; main(*map(int, sys.argv[2:]))"
)
_SPAWN_TIMEOUT_S = 30.0
_REAP_TIMEOUT_S = 5.0
_LAST_BREATH_S = 1.0
"""From closing its end of the channel to its end."""
_LOG_BYTES = 4000
_LOG_LOOKS, _LOG_LOOK_S = 10, 0.02

_Spawned: TypeAlias = "Future[subprocess.Popen[bytes]]"

_Order: TypeAlias = "tuple[list[str], tuple[int, ...], _Spawned]"


class _Spawner:
    """A thread that spawns, and lasts as long as this process.

    The kernel ends a child together with the thread that started it, not only with the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[_Order] | None = None
        os.register_at_fork(after_in_child=self._forget)

    def spawn(self, command: list[str], fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        """Starts a program that inherits some descriptors, at the head of a group of its own.

        Raises:
            OSError: It cannot be started.
        """
        with self._lock:
            if self._orders is None:
                self._orders = queue.SimpleQueue()
                threading.Thread(
                    target=self._run, args=(self._orders,), name="raygym-spawn", daemon=True
                ).start()
            spawned: _Spawned = Future()
            self._orders.put((command, fds, spawned))
        return spawned.result(_SPAWN_TIMEOUT_S)

    @staticmethod
    def _run(orders: queue.SimpleQueue[_Order]) -> None:
        while True:
            command, fds, spawned = orders.get()
            try:
                spawned.set_result(
                    subprocess.Popen(
                        command, pass_fds=fds, stdin=subprocess.DEVNULL, process_group=0
                    )
                )
            except OSError as error:
                spawned.set_exception(error)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._orders = None


_SPAWNER = _Spawner()


def pickled_factory(factory: EnvFactory) -> bytes:
    """Returns a factory as its children read it.

    Raises:
        ConfigError: It holds what cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps(factory))
    # Pickling runs code of the objects, which raises as it likes.
    except Exception as error:
        raise ConfigError(
            f"ProcessSlots: the factory of the environments cannot be pickled: {error}. Let it "
            "make what it needs when it is called, or use slots of threads"
        ) from error


class WorkerProcess:
    """A child that plays some slots.

    Args:
        number: Among the processes.
        factory: Of the environments, as ``pickled_factory`` gave it.
        block: Shared with it, or None: then ``attach`` follows.
    """

    def __init__(self, number: int, factory: bytes, block: Block | None) -> None:
        self.number = number
        self.is_deaf = False
        """Whether it did not take what it was told."""
        self.is_hung_up = False
        """Whether its end of the channel is closed."""
        self.is_up = False
        """Whether it has said anything yet."""
        self.started_s = self.last_sent_s = time.monotonic()
        self.channel, theirs = Channel.pair()
        self._log_fd = os.memfd_create("raygym-log", os.MFD_CLOEXEC)
        with theirs:
            fds = (theirs.fileno(), self._log_fd)
            numbers = [str(number) for number in (*fds, os.getpid())]
            command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), *numbers]
            self._process = _SPAWNER.spawn(command, fds)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        set_up = SetUp(number, factory, None if block is None else block.layout)
        with contextlib.suppress(OSError):  # gone already: the next recv says so
            self.channel.send(
                Word.SET_UP.value + pickle.dumps(set_up), () if block is None else (block.fd,)
            )

    def attach(self, block: Block) -> None:
        """Shares a block with it."""
        self.channel.send(Word.ATTACH.value + pickle.dumps(block.layout), (block.fd,))

    def send(self, word: Word, body: bytes) -> None:
        """Tells it something.

        Raises:
            OSError: It is gone, or does not listen.
        """
        self.last_sent_s = time.monotonic()
        self.channel.send(word.value + body)

    def heard(self) -> tuple[Word, bytes] | None:
        """Returns its next message; None if there is none now.

        Raises:
            EOFError: It is gone.
        """
        try:
            received = self.channel.recv()
        except EOFError:
            self.is_hung_up = True
            raise
        if received is None:
            return None
        self.is_up = True
        return Word(received[0][:1]), received[0][1:]

    def quit(self) -> None:
        """Asks it to end."""
        with contextlib.suppress(OSError):
            self.channel.send(Word.QUIT.value)

    def ended(self, timeout_s: float) -> bool:
        """Returns whether it has ended; waits so long."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1e3))

    def log(self, *, asks_where: bool) -> str:
        """Returns where its threads were when it crashed, as Python tells; may be empty.

        Args:
            asks_where: Whether to ask a process that lives where its threads are now; one that
                hears nothing costs a moment's wait.
        """
        if asks_where and self.is_up and self._pidfd >= 0 and not self.ended(0.0):
            os.kill(self.pid, signal.SIGUSR1)
            self._await_log()
        size = os.fstat(self._log_fd).st_size if self._log_fd >= 0 else 0
        if not size:
            return ""
        tail = os.pread(self._log_fd, _LOG_BYTES, max(0, size - _LOG_BYTES))
        return tail.decode("utf-8", "replace").strip()

    def _await_log(self) -> None:
        size = -1
        for _ in range(_LOG_LOOKS):
            before, size = size, os.fstat(self._log_fd).st_size
            if (size and size == before) or self.ended(_LOG_LOOK_S):
                return

    def kill(self) -> str:
        """Ends it and its group; returns how it had ended before, if so."""
        if self._pidfd < 0:
            return ""
        is_gone = self.ended(_LAST_BREATH_S if self.is_hung_up else 0.0)
        # Until it is reaped its number, and its group's, is no other's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_TIMEOUT_S)
        os.close(self._pidfd)
        os.close(self._log_fd)
        self._pidfd = self._log_fd = -1
        self.channel.close()
        return _how(self._process.returncode) if is_gone else ""


def _how(code: int) -> str:
    if code >= 0:
        return f"it exited with status {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
