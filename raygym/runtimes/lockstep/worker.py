"""``python -m raygym.runtimes.lockstep.worker``: one conversation's environments, in a process.

Its owner gives it a connected stream socket, which may be a client's own, and watches it from
outside (``supervisor``). Requests come and responses go in frames (``raygym.wire.framing``).
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import socket
import sys
from collections.abc import Sequence

from raygym.runtimes.lockstep.answers import error_of
from raygym.runtimes.lockstep.env_loop import EnvLoop, parse
from raygym.runtimes.lockstep.frames import FrameTooLong, read_frame, write_frame
from raygym.runtimes.lockstep.ledger import Ledger, Stage
from raygym.runtimes.lockstep.limits import Limits
from raygym.runtimes.lockstep.memory import SharedMemory
from raygym.runtimes.lockstep.order import (
    EXIT_NOT_MADE,
    LEDGER_FD,
    MEMORY_FD,
    ORDER_FD,
    SOCKET_FD,
    Order,
)
from raygym.wire.proto import raygym_v1_pb2 as pb


class Worker:
    """Serves one conversation over a blocking socket.

    Args:
        sock: Where requests come from.
        ledger: Notes what is done.
        loop: Does it.
        limits: Of messages.
    """

    def __init__(self, sock: socket.socket, ledger: Ledger, loop: EnvLoop, limits: Limits) -> None:
        self._sock = sock
        self._ledger = ledger
        self._loop = loop
        self._max_bytes = limits.max_message_bytes

    def restore(self, order: Order) -> pb.Error | None:
        """Brings the conversation to where the last worker left it; returns why it cannot."""
        self._loop.handle_bytes(order.hello)
        if order.make is None:
            return None
        again = pb.Response.FromString(self._loop.handle_bytes(order.make))
        group = self._loop.group
        if group is None:
            return again.error
        self._ledger.keep_made(again.made.SerializeToString())
        group.lose({env: pb.Failure.FromString(data) for env, data in order.failures.items()})
        return None

    def run(self, first: bytes) -> int:
        """Answers requests until the client hangs up; returns the exit code."""
        request: bytes | bytearray | None = first
        while request is not None:
            self._answer(request)
            if self._loop.group is None:
                return EXIT_NOT_MADE
            request = self._next()
        return 0

    def _next(self) -> bytes | bytearray | None:
        while True:
            self._ledger.stage(Stage.IDLE)
            try:
                return read_frame(self._sock, self._max_bytes, self._on_begin)
            except FrameTooLong as too_long:
                write_frame(self._sock, too_long.response.SerializeToString())

    def _on_begin(self) -> None:
        self._ledger.stage(Stage.READING)

    def _answer(self, data: bytes | bytearray) -> None:
        request = parse(data)
        kind = request.WhichOneof("body")
        envs = getattr(request, kind).envs if kind in ("step", "reset", "render") else ()
        self._ledger.begin(Stage.HANDLING, kind, request.id, envs)
        response = self._loop.handle(request)
        if response.HasField("made"):
            self._ledger.keep_made(response.made.SerializeToString())
        answer = self._loop.serialise(response)
        self._ledger.stage(Stage.WRITING)
        write_frame(self._sock, answer)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raygym.runtimes.lockstep.worker")
    parser.add_argument("max_envs", type=int)
    return parser.parse_args(argv)


def _read_order() -> Order:
    with os.fdopen(ORDER_FD, "rb") as file:
        file.seek(0)
        # Written by the owner of this process.
        order = pickle.load(file)  # noqa: S301
    assert isinstance(order, Order)  # noqa: S101
    return order


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until the client hangs up; returns the exit code."""
    faulthandler.enable()
    arguments = _arguments(argv)
    order = _read_order()
    sys.path[:] = order.paths
    sock = socket.socket(fileno=SOCKET_FD)
    sock.setblocking(True)
    ledger = Ledger(arguments.max_envs, LEDGER_FD)
    limits = order.limits
    try:
        factory = pickle.loads(order.factory)  # noqa: S301
    # The module of a factory may do anything when it is imported.
    except Exception as error:  # noqa: BLE001
        return _refuse(sock, order, error_of(error))
    loop = EnvLoop(
        factory,
        env_ids=order.face.env_ids,
        runtime=order.face.runtime,
        limits=limits,
        local_socket=order.face.local_socket,
        memory=SharedMemory(MEMORY_FD, order.memory_path),
    )
    worker = Worker(sock, ledger, loop, limits)
    try:
        why_not = worker.restore(order)
        if why_not is not None:
            return _refuse(sock, order, why_not)
        return worker.run(order.first)
    except ConnectionError:
        return 0
    finally:
        loop.close()


def _refuse(sock: socket.socket, order: Order, error: pb.Error) -> int:
    response = pb.Response(id=parse(order.first).id, error=error)
    write_frame(sock, response.SerializeToString())
    return EXIT_NOT_MADE


if __name__ == "__main__":
    sys.exit(main())
