"""Channels of raygym.v1 without a wire: to environments of this process, or to a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from raygym.errors import RaygymError, SessionLost
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.session import LockstepSession, MakeOptions
from raygym.runtimes.lockstep.env_loop import EnvLoop
from raygym.wire.proto import raygym_v1_pb2 as pb


class LoopChannel:
    """Asks an EnvLoop.

    Args:
        factory: Makes an environment of keyword arguments.
    """

    def __init__(self, factory: Callable[..., gymnasium.Env[Any, Any]]) -> None:
        self.loop = EnvLoop(lambda _id, kwargs: factory(**kwargs))
        self.requests: list[pb.Request] = []
        self.is_closed = False
        self.trouble: RaygymError | None = None
        self.change: Callable[[pb.Response], None] = lambda _response: None

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        assert timeout_s > 0
        if self.is_closed:
            raise SessionLost("closed")
        if self.trouble is not None:
            self.close()
            raise self.trouble
        self.requests.append(pb.Request.FromString(request))
        response = pb.Response.FromString(self.loop.handle_bytes(request))
        self.change(response)
        return response.SerializeToString()

    def close(self) -> None:
        self.is_closed = True
        self.loop.close()


class LoopServer:
    """Opens sessions with environments of this process; ``refusals`` are raised first."""

    def __init__(self, factory: Callable[..., gymnasium.Env[Any, Any]]) -> None:
        self.factory = factory
        self.channels: list[LoopChannel] = []
        self.refusals: list[RaygymError] = []
        self.slept_s: list[float] = []
        self.now_s = 0.0

    def open(self, *, timeout_s: float) -> LockstepSession:
        assert timeout_s > 0
        if self.refusals:
            raise self.refusals.pop(0)
        self.channels.append(LoopChannel(self.factory))
        session = LockstepSession(self.channels[-1], name="test")
        session.hello(timeout_s=timeout_s)
        return session

    def link(self, **options: Any) -> Link:
        return Link(
            self.open,
            MakeOptions(**options),
            connect_timeout_s=10.0,
            start_timeout_s=20.0,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
