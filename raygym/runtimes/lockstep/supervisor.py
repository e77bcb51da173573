"""One conversation over one socket, whatever becomes of the process that holds it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import pickle
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raygym.core import Outcome
from raygym.errors import RaygymError
from raygym.runtimes.lockstep.answers import (
    Face,
    Refused,
    error_response,
    failure,
    indices,
    refused,
)
from raygym.runtimes.lockstep.env_loop import parse
from raygym.runtimes.lockstep.frames import FrameTooLong, read_frame_soon, write_frame_soon
from raygym.runtimes.lockstep.hang_up import HangUp
from raygym.runtimes.lockstep.ledger import Entry, Ledger, Stage
from raygym.runtimes.lockstep.limits import Limits
from raygym.runtimes.lockstep.losses import lost_batch
from raygym.runtimes.lockstep.memory import SharedMemory
from raygym.runtimes.lockstep.order import (
    EXIT_NOT_MADE,
    LEDGER_FD,
    MEMORY_FD,
    ORDER_FD,
    SOCKET_FD,
    Order,
)
from raygym.runtimes.processes import Process, spawn
from raygym.wire.proto import raygym_v1_pb2 as pb

log = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-m", "raygym.runtimes.lockstep.worker")
_HANG_UP_GRACE_S = 2.0
_CODES = {
    Outcome.ENV_FAILURE: pb.Error.INTERNAL,
    Outcome.INFRA_FAILURE: pb.Error.UNAVAILABLE,
    Outcome.TIMEOUT: pb.Error.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What all workers of one server have in common."""

    factory: bytes
    """A pickled EnvFactory."""
    face: Face
    """What the server says of itself."""
    limits: Limits
    """What a client may ask for."""
    step_timeout_s: float = 60.0
    """Longest step or rendering."""
    start_timeout_s: float = 60.0
    """Longest start, making and reset."""
    idle_timeout_s: float = 0.0
    """Ends a conversation that asked nothing for so long; 0 never."""
    memory_directory: Path | None = None
    """Where clients look for shared memory; None for those of the same namespaces."""


@dataclass
class _Ending:
    """Why a worker ended."""

    outcome: Outcome
    message: str
    code: int | None = None
    is_over: bool = False


class Supervisor:
    """Serves one socket with one worker after the other.

    It answers by itself while there is no worker: Hello, what makes no sense before a Make, and
    the request that killed a worker. Belongs to the event loop that runs it.

    Args:
        sock: Connected; requests come from it. It then belongs to this.
        setup: What workers are started with.
    """

    def __init__(self, sock: socket.socket, setup: WorkerSetup) -> None:
        self._sock = sock
        self._setup = setup
        self._memory = SharedMemory(directory=setup.memory_directory)
        self._hello: bytes | None = None
        self._make: bytes | None = None
        self._made: pb.Made | None = None
        self._failures: dict[int, pb.Failure] = {}
        self._process: Process | None = None

    async def run(self) -> None:
        """Serves until the client hangs up; everything that belongs to it is gone on return."""
        self._sock.setblocking(False)
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                while (request := await self._read()) is not None and await self._serve(request):
                    pass
        finally:
            self._sock.close()
            self._memory.close()
            if self._process is not None:
                await self._process.kill()

    async def _read(self) -> bytes | None:
        limit_s = self._setup.idle_timeout_s or None
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    return await read_frame_soon(self._sock, self._setup.limits.max_message_bytes)
            except FrameTooLong as too_long:
                await self._write(too_long.response)

    async def _write(self, response: pb.Response) -> None:
        await write_frame_soon(self._sock, response.SerializeToString())

    async def _serve(self, data: bytes) -> bool:
        """Answers one request, or all until a worker ends; returns whether to go on."""
        request = parse(data)
        kind = request.WhichOneof("body")
        try:
            if kind is None:
                raise refused(pb.Error.INVALID_ARGUMENT, "this is no request of raygym.v1")
            if kind == "hello":
                await self._write(self._greet(request, data))
                return True
            self._expect(kind)
        except Refused as refusal:
            await self._write(error_response(request.id, refusal.code, refusal.message))
            return True
        return await self._work(request, data)

    def _greet(self, request: pb.Request, data: bytes) -> pb.Response:
        if self._hello is not None:
            raise refused(pb.Error.FAILED_PRECONDITION, "hello: it was said already")
        welcome = self._setup.face.welcome(request.hello, self._setup.limits)
        self._hello = data
        return pb.Response(id=request.id, welcome=welcome)

    def _expect(self, kind: str) -> None:
        if self._hello is None:
            raise refused(pb.Error.FAILED_PRECONDITION, f"{kind}: say Hello first")
        if kind != "make" and self._make is None:
            raise refused(
                pb.Error.FAILED_PRECONDITION, f"{kind}: there is no environment yet; Make first"
            )
        if kind == "make" and self._make is not None:
            raise refused(
                pb.Error.FAILED_PRECONDITION,
                "make: this conversation has its environments; open another for more",
            )

    async def _work(self, request: pb.Request, data: bytes) -> bool:
        """Has a worker do this request and those after it; returns whether to go on."""
        kind = request.WhichOneof("body")
        ledger = Ledger(self._setup.limits.max_envs)
        try:
            envs: Sequence[int] = () if kind == "make" else getattr(request, str(kind)).envs
            ledger.begin(Stage.STARTING, kind, request.id, envs)
            ending = await self._run_worker(ledger, data)
            entry, made = ledger.read(), ledger.made()
        finally:
            ledger.close()
        if ending is None or ending.code == EXIT_NOT_MADE:
            return ending is not None
        log.warning("worker.lost stage=%s kind=%s %s", entry.stage.name, entry.kind, ending.message)
        if entry.stage in (Stage.READING, Stage.WRITING):
            return False  # nobody knows where in the stream it stopped
        is_pending = entry.stage is not Stage.IDLE
        if made is not None and not (is_pending and entry.kind == "make"):
            self._make = self._make or data
            self._made = pb.Made.FromString(made)
        await self._account(entry, ending, is_pending=is_pending)
        return True

    async def _account(self, entry: Entry, ending: _Ending, *, is_pending: bool) -> None:
        """Answers the request that a worker left behind, and notes which environments it lost."""
        code = _CODES[ending.outcome]
        error = pb.Error(code=code, message=f"the environment was lost: {ending.message}")
        count = 0 if self._make is None else parse(self._make).make.count or 1
        self._failures = {env: failure(env, ending.outcome, error) for env in range(count)}
        if not is_pending:
            return
        if entry.kind in ("reset", "step") and self._made is not None:
            try:
                envs = indices(entry.envs, count)
            except Refused as refusal:
                error = pb.Error(code=refusal.code, message=refusal.message)
            else:
                told = [self._failures.pop(env) for env in envs]
                batch = lost_batch(self._made.observation_space, envs, told)
                await self._write(pb.Response(id=entry.request_id, batch=batch))
                return
        await self._write(pb.Response(id=entry.request_id, error=error))

    async def _run_worker(self, ledger: Ledger, first: bytes) -> _Ending | None:
        """Returns why a worker ended; None if that is the end of the conversation."""
        self._sock.setblocking(True)
        try:
            self._process = process = self._spawn(ledger, first)
        except (OSError, RaygymError) as error:
            self._sock.setblocking(False)
            return _Ending(Outcome.INFRA_FAILURE, f"no process could be started: {error}")
        with HangUp(self._sock) as hang_up:
            overdue = await self._watch(process, ledger, hang_up)
            is_over = hang_up.is_set()
        code = await process.wait()
        self._process = None
        if is_over or code == 0:
            return None
        self._sock.setblocking(False)
        return overdue or _Ending(Outcome.ENV_FAILURE, f"its process {_how_it_ended(code)}", code)

    def _spawn(self, ledger: Ledger, first: bytes) -> Process:
        setup = self._setup
        assert self._hello is not None  # noqa: S101  see _expect
        order = Order(
            factory=setup.factory,
            paths=tuple(sys.path),
            face=setup.face,
            limits=setup.limits,
            memory_path=self._memory.path,
            hello=self._hello,
            make=self._make,
            failures={env: lost.SerializeToString() for env, lost in self._failures.items()},
            first=first,
        )
        with os.fdopen(os.memfd_create("raygym-order", os.MFD_CLOEXEC), "wb") as file:
            file.write(pickle.dumps(order))
            file.flush()
            fds = {
                SOCKET_FD: self._sock.fileno(),
                LEDGER_FD: ledger.fd,
                MEMORY_FD: self._memory.fd,
                ORDER_FD: file.fileno(),
            }
            command = [*_COMMAND, str(setup.limits.max_envs)]
            return spawn(command, environment=os.environ, fds=fds)

    async def _watch(self, process: Process, ledger: Ledger, hang_up: HangUp) -> _Ending | None:
        """Waits for the end of a worker; returns why it was brought about, if it was."""
        ended = asyncio.ensure_future(process.wait())
        gone = asyncio.ensure_future(hang_up.wait())
        try:
            while not ended.done():
                left_s, overdue = self._left(ledger.read())
                if overdue is not None:
                    if overdue.is_over:
                        hang_up.set()
                    await process.kill()
                    return overdue
                await asyncio.wait(
                    {ended, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done():
                    await asyncio.wait({ended}, timeout=_HANG_UP_GRACE_S)
                    await process.kill()
                    return None
            return None
        finally:
            ended.cancel()
            gone.cancel()

    def _left(self, entry: Entry) -> tuple[float, _Ending | None]:
        """Returns when to look at a worker again, in seconds, or why it may not go on."""
        setup = self._setup
        age_s = asyncio.get_running_loop().time() - entry.since_s
        # Whatever begins right now is looked at before its own time is over.
        idle_s = setup.idle_timeout_s or math.inf
        wait_s = min(setup.step_timeout_s, setup.start_timeout_s, idle_s)
        if entry.stage not in (Stage.STARTING, Stage.HANDLING):
            if age_s < idle_s:
                return min(wait_s, idle_s - age_s), None
            return 0.0, _Ending(Outcome.TIMEOUT, "its client asked nothing", is_over=True)
        is_step = entry.stage is Stage.HANDLING and entry.kind in ("step", "render")
        limit_s = setup.step_timeout_s if is_step else setup.start_timeout_s
        if age_s < limit_s:
            return min(wait_s, limit_s - age_s), None
        message = f"its {entry.kind} was not done within {limit_s:g} s"
        return 0.0, _Ending(Outcome.TIMEOUT, message)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"was ended by signal {-code}"
