"""Conversations in lock-step with a Flash remote: many may open, one plays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium

from raygym.errors import ConfigError
from raygym.runtimes.flashgames.flash_env import FlashEnv, SmallPicture
from raygym.runtimes.flashgames.lockstep_page import LockstepPage
from raygym.runtimes.lockstep.answers import error_response
from raygym.runtimes.lockstep.conversation import LoopConversation
from raygym.runtimes.lockstep.env_loop import EnvLoop, parse
from raygym.runtimes.lockstep.group import MAX_FRAME_SKIP
from raygym.runtimes.lockstep.limits import Limits
from raygym.runtimes.lockstep.picture import wants_pictures
from raygym.wire.framing import MAX_MESSAGE_BYTES
from raygym.wire.proto import raygym_v1_pb2 as pb

RUNTIME = "flashgames"

_TURN_WAIT_S = 2.0
_SLACK_S = 5.0


class FlashStage:
    """The page of one Remote, and whose turn it is to play on it.

    Args:
        page: Started by somebody else.
        env_ids: What clients may play.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset.
        max_message_bytes: Longest message.

    Raises:
        ConfigError: There is no such game.
    """

    def __init__(
        self,
        page: LockstepPage,
        *,
        env_ids: Sequence[str],
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        for env_id in env_ids:
            if env_id not in page.games:
                known = ", ".join(sorted(page.games))
                raise ConfigError(f"unknown environment {env_id!r} of flashgames. Known: {known}")
        self.page = page
        self.env_ids = tuple(env_ids)
        self.step_timeout_s = step_timeout_s
        self.start_timeout_s = start_timeout_s
        self.limits = Limits(
            max_envs=1, are_kwargs_allowed=False, max_message_bytes=max_message_bytes
        )
        self.local_socket = ""
        """Where clients of this machine find it; named in the Welcome."""
        self.turn = asyncio.Lock()
        """Held by the conversation that plays."""

    async def open(self) -> FlashConversation:
        """Begins a conversation."""
        return FlashConversation(self)


class FlashConversation:
    """One client's conversation. It plays from its Make on, until it is closed.

    Args:
        stage: Where it plays.
    """

    def __init__(self, stage: FlashStage) -> None:
        self._stage = stage
        self._frame_skip = 1
        self._picture: SmallPicture | None = None
        self._is_playing = False
        loop = EnvLoop(
            self._make,
            env_ids=stage.env_ids,
            runtime=RUNTIME,
            limits=stage.limits,
            local_socket=stage.local_socket,
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
                pb.Error.RESOURCE_EXHAUSTED,
                f"make: a flashgames remote plays one game at a time, and {make.count} were asked "
                "for; start as many remotes",
            )
        if make.frame_skip > MAX_FRAME_SKIP:
            return await self._inner.ask(request)
        if not await self._take_turn():
            return _refusal(
                asked,
                pb.Error.RESOURCE_EXHAUSTED,
                "make: this remote plays for another client, and can for one at a time; wait until "
                "that client is done, or start another remote",
            )
        # The page runs all frames of a step at once.
        self._frame_skip, make.frame_skip = make.frame_skip or 1, 1
        self._picture = self._small_picture(make)
        if self._picture is not None:
            make.ClearField("picture")
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

    def _small_picture(self, make: pb.Make) -> SmallPicture | None:
        """Returns the picture that is wanted, if the page can make it itself."""
        game = self._stage.page.games.get(make.env_id or self._stage.env_ids[0])
        wanted = make.picture
        if game is None or not wants_pictures(wanted) or wanted.crop_width or wanted.crop_height:
            return None
        region = game.spec.region
        small = SmallPicture(
            wanted.width or region.width, wanted.height or region.height, wanted.is_grey
        )
        return small if small.width <= region.width and small.height <= region.height else None

    def _make(self, env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        stage = self._stage
        return FlashEnv(
            stage.page,
            stage.page.games[env_id],
            frame_skip=self._frame_skip,
            picture=self._picture,
            render_mode=kwargs.get("render_mode"),
            step_timeout_s=stage.step_timeout_s,
            start_timeout_s=stage.start_timeout_s,
        )


def _refusal(asked: pb.Request, code: Any, message: str) -> bytes:
    return error_response(asked.id, code, message).SerializeToString()
