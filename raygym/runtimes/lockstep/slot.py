"""One environment of a conversation, and what became of it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from raygym.runtimes.lockstep.picture import PictureMaker

Stepped = tuple[Any, Any, Any, Any, dict[str, Any]]
"""Observation, reward, terminated, truncated, info."""

BROKEN = (Exception, SystemExit)
"""What an environment may raise without harm to others."""


class State(enum.Enum):
    """What may come next."""

    NEW = enum.auto()
    """Never reset."""
    RUNNING = enum.auto()
    """Within an episode."""
    ENDED = enum.auto()
    """Its episode ended; nothing has begun yet."""
    FAILED = enum.auto()
    """It raised or was lost, and the client was told."""
    LOST = enum.auto()
    """It was lost, and the client was not told yet."""


class Slot:
    """Holds one environment, and makes it anew when it broke.

    Args:
        make: Makes the environment.
        frame_skip: Frames of one step.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], frame_skip: int) -> None:
        self._make = make
        self._frame_skip = frame_skip
        self.state = State.NEW
        self.last: Any = None
        """The last observation; None before the first."""
        self.picture: PictureMaker | None = None
        """What becomes of its observations."""
        self.env: gymnasium.Env[Any, Any] | None = None
        """None while it is broken."""
        self.step: Callable[[Any], Stepped] = self._step
        """Takes one step of the protocol; whatever the environment raises goes through."""

    def start(self) -> gymnasium.Env[Any, Any]:
        """Returns the environment, made anew if it broke."""
        if self.env is None:
            self.env = self._make()
        is_plain = self._frame_skip == 1 and self.picture is None
        self.step = self.env.step if is_plain else self._step
        return self.env

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; whatever the environment raises goes through."""
        env = self.start()
        observation, info = env.reset(seed=seed, options=None if options is None else dict(options))
        self.state = State.RUNNING
        if self.picture is not None:
            observation = self.picture.make(observation)
        return observation, info

    def give_up(self) -> None:
        """Closes a broken environment; the next ``start`` makes another."""
        env, self.env = self.env, None
        self.state = State.FAILED
        if env is not None:
            with contextlib.suppress(*BROKEN):
                env.close()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Closes the environment. May be called twice."""
        self.give_up()

    def _step(self, action: Any) -> Stepped:
        assert self.env is not None  # noqa: S101  a running slot has one
        total = 0.0
        for _ in range(self._frame_skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        if self.picture is not None:
            observation = self.picture.make(observation)
        return observation, total, terminated, truncated, info
