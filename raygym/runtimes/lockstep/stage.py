"""Lock-step with what a remote has one of: many conversations may open, one plays."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium

from raygym.errors import ConfigError
from raygym.runtimes.lockstep.answers import error_response
from raygym.runtimes.lockstep.conversation import LoopConversation
from raygym.runtimes.lockstep.env_loop import EnvLoop, parse
from raygym.runtimes.lockstep.group import MAX_FRAME_SKIP
from raygym.runtimes.lockstep.limits import Limits
from raygym.wire.framing import MAX_MESSAGE_BYTES
from raygym.wire.proto import raygym_v1_pb2 as pb

_TURN_WAIT_S = 2.0
_SLACK_S = 5.0

MakeEnv: TypeAlias = Callable[[str, str | None], gymnasium.Env[Any, Any]]
"""Makes the environment of an id, with a render mode."""


class Stage(abc.ABC):
    """The page of one Remote, and whose turn it is to play on it.

    Args:
        runtime: Name of the Runtime.
        env_ids: What clients may play.
        known: What the page can play.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset.
        max_message_bytes: Longest message.

    Raises:
        ConfigError: The page cannot play one of them.
    """

    def __init__(
        self,
        runtime: str,
        *,
        env_ids: Sequence[str],
        known: Collection[str],
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        for env_id in env_ids:
            if env_id not in known:
                raise ConfigError(
                    f"unknown environment {env_id!r} of {runtime}. Known: "
                    + ", ".join(sorted(known))
                )
        self.runtime = runtime
        self.env_ids = tuple(env_ids)
        self.step_timeout_s = step_timeout_s
        self.start_timeout_s = start_timeout_s
        self.limits = Limits(
            max_envs=1, are_kwargs_allowed=False, max_message_bytes=max_message_bytes
        )
        self.local_socket = ""
        """Where clients of this machine find it; named in the Welcome."""
        self.memory_directory: Path | None = None
        """Where they look for shared memory; see ``RpcConfig``."""
        self.turn = asyncio.Lock()
        """Held by the conversation that plays."""

    async def open(self) -> StageConversation:
        """Begins a conversation."""
        return StageConversation(self)

    @abc.abstractmethod
    def maker(self, make: pb.Make) -> MakeEnv:
        """Returns what makes the environment that a client asks for.

        It runs the frames of a step, ``make.frame_skip``, itself. From ``make`` it removes
        what else the environment does itself.
        """


class StageConversation:
    """One client's conversation. It plays from its Make on, until it is closed.

    Args:
        stage: Where it plays.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._make_env: MakeEnv | None = None
        self._is_playing = False
        loop = EnvLoop(
            self._make,
            env_ids=stage.env_ids,
            runtime=stage.runtime,
            limits=stage.limits,
            local_socket=stage.local_socket,
            memory_directory=stage.memory_directory,
        )
        self._inner = LoopConversation(
            loop,
            # The environment keeps its deadlines itself, and says more about them.
            step_timeout_s=stage.step_timeout_s + _SLACK_S,
            start_timeout_s=stage.start_timeout_s + _SLACK_S,
        )

    async def ask(self, request: bytes) -> bytes:
        """Returns the response to a serialised request; see ``Conversation``."""
        asked = parse(request)
        if not asked.HasField("make"):
            return await self._inner.ask(request)
        make = asked.make
        if make.count > 1:
            return _refusal(
                asked,
                f"make: a {self._stage.runtime} remote plays one game at a time, and {make.count} "
                "were asked for; start as many remotes",
            )
        if make.frame_skip > MAX_FRAME_SKIP:
            return await self._inner.ask(request)
        if not await self._take_turn():
            return _refusal(
                asked,
                "make: this remote plays for another client, and can for one at a time; wait until "
                "that client is done, or start another remote",
            )
        self._make_env = self._stage.maker(make)
        make.frame_skip = 1
        return await self._inner.ask(asked.SerializeToString())

    async def close(self) -> None:
        """Ends it, and lets the next client play. May be called twice."""
        try:
            await self._inner.close()
        finally:
            if self._is_playing:
                self._is_playing = False
                self._stage.turn.release()

    async def _take_turn(self) -> bool:
        if not self._is_playing:
            try:
                async with asyncio.timeout(_TURN_WAIT_S):
                    await self._stage.turn.acquire()
            except TimeoutError:
                return False
            self._is_playing = True
        return True

    def _make(self, env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        assert self._make_env is not None  # noqa: S101  set before this is asked for
        return self._make_env(env_id, kwargs.get("render_mode"))


def _refusal(asked: pb.Request, message: str) -> bytes:
    code = pb.Error.RESOURCE_EXHAUSTED
    return error_response(asked.id, code, message).SerializeToString()
