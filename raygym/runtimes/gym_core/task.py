"""Gymnasium's environments as a Task: in real time, or one step for each press of a key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raygym import gym_ids
from raygym.core import UInt8Array
from raygym.errors import ConfigError, RemoteEnvError
from raygym.gym_ids import ANY_ENV, GymFacts
from raygym.runtimes.gym_core.env_thread import EnvRaised
from raygym.runtimes.gym_core.keyboard import Keyboard
from raygym.runtimes.gym_core.player import Player, Shown
from raygym.runtimes.host import Reports, UnknownEnv
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire import pixel_metadata, timing
from raygym.wire.encoder import Box
from raygym.wire.keysyms import keysym
from raygym.wire.rfb_server import KeyEvent
from raygym.wire.timing import TimingMark

RUNTIME = "gym-core"
COMMIT_KEY = "c"
"""What makes an environment in sync mode step once."""
BLOCK_X_PX = timing.WIDTH_PX + 8
"""Where Universe's pixel metadata begin, beside the timing strip."""

_PROBES = (pixel_metadata.PROBE_KEYSYM, 0x60)
_SYNC_REPAINT_S = 0.1
_PAST_S = 0.002
"""In sync mode a client takes the first picture whose millisecond is past that of the message
that answered it. So the picture waits for the next one, and none before can be taken for it."""
_SEEDS = 2**31


class GymCoreTask:
    """Environments of Gymnasium behind a screen: its pictures there, its actions from keys.

    In real time it steps at the rate that the client's reset asks for, whatever the client
    does. In sync mode it steps once for each press of the commit key, with the keys that
    are held then; it sends exactly one reward for it, and then paints.

    The picture stands at the top left; the timing strip and Universe's pixel metadata
    below it.

    Args:
        screen: Where it paints, and whose keys it hears.
        env_ids: As ``gym_ids.find`` takes them; or ``ANY_ENV`` alone, for what clients ask for.
        step_timeout_s: Longest step, and longest reset, of an environment.
        unix_time: Unix time in seconds, for the timing strip.

    Raises:
        ConfigError: One of them cannot be played through a screen, or some are sync and
            some are not.
    """

    runtime = RUNTIME

    def __init__(
        self,
        screen: PaintedScreen,
        env_ids: Sequence[str],
        *,
        step_timeout_s: float = 5.0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        if not env_ids:
            raise ConfigError("gym-core: give at least one --env, as in --env CartPole-v1")
        self._is_any = tuple(env_ids) == (ANY_ENV,)
        self._facts: dict[str, GymFacts] = {
            gym_ids.PREFIX + name.removeprefix(gym_ids.PREFIX): gym_ids.facts(name)
            for name in env_ids
            if not self._is_any
        }
        self.env_ids = (ANY_ENV,) if self._is_any else tuple(self._facts)
        sync = {facts.is_sync for facts in self._facts.values()}
        if len(sync) > 1:
            raise ConfigError(
                f"gym-core: {', '.join(env_ids)}: some wait for the commit key and some run by "
                "themselves; host them in two remotes"
            )
        self._is_sync = True in sync
        self._modes = ["realtime", "sync"] if self._is_any else [self._mode]
        width_px, height_px = gym_ids.SCREEN_PX
        heights = [facts.size_px[1] for facts in self._facts.values()]
        self._strip_px = (0, max(heights, default=gym_ids.MAX_PICTURE_PX[1]))
        self._screen = screen
        screen.exact = Box(
            BLOCK_X_PX, self._strip_px[1], pixel_metadata.WIDTH_PX, pixel_metadata.HEIGHT_PX
        )
        self._step_timeout_s = step_timeout_s
        self._unix_time = unix_time
        self._pixels: UInt8Array = np.zeros((height_px, width_px, 3), dtype=np.uint8)
        self._keyboard = Keyboard()
        self._commit_keysym = keysym(COMMIT_KEY)
        self._commits: asyncio.Queue[int | None] = asyncio.Queue()
        self._input_at_s = self._probe_at_s = unix_time()
        self._input_count = 0
        self._reports: Reports | None = None
        self._player: Player | None = None
        self._playing: asyncio.Task[None] | None = None

    @property
    def manifest(self) -> Mapping[str, Any]:
        """See ``Task``; where any id may be asked for, the mode is that of what is played."""
        return {
            "modes": self._modes,
            "screen": list(gym_ids.SCREEN_PX),
            "timing_strip": list(self._strip_px),
        }

    @property
    def _mode(self) -> str:
        return "sync" if self._is_sync else "realtime"

    async def start(self, reports: Reports) -> None:
        """Starts to hear keys."""
        self._reports = reports
        self._screen.on_key = self._on_key

    async def reset(self, env_id: str, *, seed: int | None, fps: float) -> None:
        """Starts an episode, in an environment made anew where the last one broke.

        Args:
            env_id: One of ``env_ids``.
            seed: For the environment; None draws one.
            fps: Steps a second.

        Raises:
            RemoteEnvError: The environment raised, or took too long.
            UnknownEnv: Any id may be asked for, and there is nothing behind this one, or nothing
                that can be played through a screen.
        """
        facts = await self._learn(env_id)
        await self._stop_playing()
        if self._player is not None and self._player.env_id != env_id:
            await self._drop_player()
        if self._player is None:
            self._player = Player(env_id, timeout_s=self._step_timeout_s)
        seed = random.randrange(_SEEDS) if seed is None else seed % _SEEDS  # noqa: S311
        try:
            shown = await self._player.reset(seed)
        except (EnvRaised, TimeoutError) as error:
            await self._drop_player()
            why = str(error) or f"it was not done within {self._step_timeout_s:g} s"
            raise RemoteEnvError(f"{env_id}: its reset failed: {why}") from error
        self._is_sync, self._modes = facts.is_sync, ["sync" if facts.is_sync else "realtime"]
        self._keyboard.use(facts.key_map)
        self._commits = asyncio.Queue()
        self._pixels[:] = 0
        info = {"seed": seed, **shown.info}
        playing = self._play(self._player, shown, info=info, period_s=1.0 / fps)
        self._playing = asyncio.create_task(playing)
        self._playing.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends the episode and its environment. May be called twice."""
        await self._stop_playing()
        await self._drop_player()

    async def _learn(self, env_id: str) -> GymFacts:
        """Returns what is known of an environment; one that nobody asked for yet is made once."""
        known = self._facts.get(env_id)
        if known is not None:
            return known
        if not self._is_any:
            raise ConfigError(f"unknown environment {env_id!r}. Known: {', '.join(self.env_ids)}")
        try:
            facts = await asyncio.to_thread(gym_ids.facts, env_id)
        except ConfigError as error:
            raise UnknownEnv(error.message) from error
        self._facts[env_id] = facts
        return facts

    async def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])

    async def _drop_player(self) -> None:
        player, self._player = self._player, None
        if player is not None:
            await player.close()

    def _ended(self, playing: asyncio.Task[None]) -> None:
        if playing.cancelled() or (error := playing.exception()) is None:
            return
        assert self._reports is not None  # noqa: S101  started before
        self._reports.failed("game_broken", f"{type(error).__name__}: {error}")

    async def _play(
        self, player: Player, shown: Shown, *, info: dict[str, Any], period_s: float
    ) -> None:
        assert self._reports is not None  # noqa: S101  started before
        values = self._facts[player.env_id].key_map.values
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not shown.is_over:
            if self._is_sync:
                await asyncio.sleep(_PAST_S)
            self._paint(shown)
            due_s = max(due_s + period_s, loop.time())
            is_turn, index = await self._turn(due_s)
            if not is_turn:
                continue
            if index is None:
                # The commit of no action is answered all the same.
                self._reports.reward(0.0)
                continue
            try:
                shown = await player.step(values[index])
            except (EnvRaised, TimeoutError) as error:
                await self._drop_player()
                if isinstance(error, EnvRaised):
                    self._reports.failed("env_raised", str(error))
                else:
                    late = f"its step was not done within {self._step_timeout_s:g} s"
                    self._reports.failed("env_hung", late)
                return
            info |= shown.info
            if shown.is_over:
                info |= _end_info(shown)
                self._paint(shown)
            self._reports.reward(shown.reward, done=shown.is_over, info=info)
            info = {}

    async def _turn(self, due_s: float) -> tuple[bool, int | None]:
        """Waits; returns whether it is time for a step, and which action is meant."""
        if not self._is_sync:
            await asyncio.sleep(due_s - asyncio.get_running_loop().time())
            index = self._keyboard.index()
            return index is not None, index
        try:
            async with asyncio.timeout(_SYNC_REPAINT_S):
                return True, await self._commits.get()
        except TimeoutError:
            return False, None

    def _paint(self, shown: Shown) -> None:
        height, width = shown.picture.shape[:2]
        self._pixels[:height, :width] = shown.picture
        now_s = self._unix_time()
        mark = TimingMark(
            timing.stamp_ms(now_s), timing.stamp_ms(self._input_at_s), self._input_count
        )
        timing.paint(self._pixels, *self._strip_px, mark)
        pixel_metadata.paint(
            self._pixels,
            BLOCK_X_PX,
            self._strip_px[1],
            now_ms=int(now_s * 1000),
            probe_at_ms=int(self._probe_at_s * 1000),
        )
        self._screen.paint(self._pixels)

    def _on_key(self, event: KeyEvent) -> None:
        self._input_at_s = self._unix_time()
        self._input_count = (self._input_count + 1) % 256
        if event.is_down and event.keysym in _PROBES:
            self._probe_at_s = self._input_at_s
        if self._is_sync and event.keysym == self._commit_keysym:
            if event.is_down:
                self._commits.put_nowait(self._keyboard.index())
            return
        self._keyboard.hear(event)


def _end_info(shown: Shown) -> dict[str, Any]:
    if shown.is_terminated:
        return {}
    return {"truncated": True, "reason": "time_limit"}
