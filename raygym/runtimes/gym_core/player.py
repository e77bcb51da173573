"""One Gymnasium environment as a screen needs it: actions in, pictures and rewards out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from raygym import gym_ids
from raygym.core import UInt8Array
from raygym.runtimes.gym_core.env_thread import EnvThread

_CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What an environment gave."""

    picture: UInt8Array
    """uint8[height, width, 3]."""
    reward: float = 0.0
    is_terminated: bool = False
    is_truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    """What of the environment's info fits into JSON: numbers, texts and truths."""

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended."""
        return self.is_terminated or self.is_truncated


class Player:
    """Makes, resets and steps one environment on a thread of its own.

    Args:
        env_id: As ``gym_ids.find`` takes it.
        timeout_s: Longest reset, and longest step.
    """

    def __init__(self, env_id: str, *, timeout_s: float) -> None:
        self.env_id = env_id
        self._size_px = gym_ids.facts(env_id).size_px
        self._timeout_s = timeout_s
        self._thread = EnvThread(env_id)
        self._env: Any = None
        self._is_stuck = False

    async def reset(self, seed: int | None) -> Shown:
        """Starts an episode.

        Raises:
            EnvRaised: The environment did.
            TimeoutError: It took too long; this player is of no more use.
        """
        return await self._call(self._reset, seed)

    async def step(self, action: Any) -> Shown:
        """Steps once; see ``reset``."""
        return await self._call(self._step, action)

    async def close(self) -> None:
        """Closes the environment, unless it is stuck, and ends its thread."""
        try:
            if not self._is_stuck:
                # It may raise, or take its time: nobody needs it any more.
                with contextlib.suppress(Exception):
                    await self._thread.call(self._close, timeout_s=_CLOSE_TIMEOUT_S)
        finally:
            self._thread.end()

    async def _call(self, function: Any, *args: Any) -> Shown:
        try:
            shown: Shown = await self._thread.call(function, *args, timeout_s=self._timeout_s)
        except TimeoutError:
            self._is_stuck = True
            raise
        return shown

    def _reset(self, seed: int | None) -> Shown:
        if self._env is None:
            self._env = gym_ids.make(self.env_id, render_mode="rgb_array")
        _, info = self._env.reset(seed=seed)
        return Shown(picture=self._picture(), info=_plain(info))

    def _step(self, action: Any) -> Shown:
        _, reward, is_terminated, is_truncated, info = self._env.step(action)
        return Shown(
            picture=self._picture(),
            reward=float(reward),
            is_terminated=bool(is_terminated),
            is_truncated=bool(is_truncated),
            info=_plain(info),
        )

    def _picture(self) -> UInt8Array:
        picture = np.asarray(self._env.render(), np.uint8)
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"render gave {picture.shape}, no picture uint8[H, W, 3]")
        width, height = self._size_px
        if picture.shape[:2] != (height, width):
            picture = np.asarray(
                cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        return picture

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, given in info.items():
        value = given.item() if isinstance(given, np.generic) else given
        is_plain = isinstance(value, str | bool | int)
        if is_plain or (isinstance(value, float) and math.isfinite(value)):
            found[str(key)] = value
    return found
