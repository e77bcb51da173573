"""One environment in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium

from raygym.errors import RaygymError
from raygym.vector.slot_record import (
    HOPELESS,
    EnvFactory,
    SlotRecord,
    close_quietly,
    failure_info,
    remotes_of,
)

_ANYTHING = (Exception, SystemExit)
"""What an environment may raise; a thread that ended with it could not tell."""
_CLOSE_S = 10.0
"""Longest wait for the environment before."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a slot's thread is to do."""

    is_reset: bool
    action: Any = None
    seed: int | None = None
    options: Mapping[str, Any] | None = None
    after_s: float = 0.0
    """Pause before a reset."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it."""

    thread: SlotThread
    is_first: bool = False
    observation: Any = None
    """None where the last one stands."""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the step took."""
    fatal: BaseException | None = None
    """Where another try would not help."""
    is_start: bool = False
    """Whether it answers nothing that was asked: the environment was made, or was not."""
    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None
    """Those of an environment that was made."""


class SlotThread:
    """Makes, resets, steps and closes one environment, all in one thread.

    Args:
        slot: Which one.
        factory: Makes its environment.
        record: Of the slot.
        answers: Where answers go.
        starts_now: Whether to make the environment at once, and tell its spaces.
        after: Closes the environment before it, which may hold what the next one needs.
    """

    def __init__(
        self,
        slot: int,
        factory: EnvFactory,
        record: SlotRecord,
        answers: queue.SimpleQueue[Answer],
        *,
        starts_now: bool = False,
        after: threading.Thread | None = None,
    ) -> None:
        self.slot = slot
        self.env: gymnasium.Env[Any, Any] | None = None
        self.asked: Asked | None = None
        """What it has not answered yet."""
        self._factory = factory
        self._after = after
        self._record = record
        self._answers = answers
        self._inbox: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._is_ending = threading.Event()
        self._is_abandoned = False
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(
            target=self._run, args=(starts_now,), name=f"slot-{slot}", daemon=True
        )
        self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Gives it something to do; the answer comes by itself."""
        self.asked = asked
        self._inbox.put(asked)

    def busy_s(self, now_s: float) -> float:
        """Returns the seconds since it went into the environment's own code; 0 outside.

        Args:
            now_s: By ``time.monotonic``.
        """
        since_s = self._busy_since_s  # its own thread may set it at any moment
        return 0.0 if since_s is None else now_s - since_s

    def end(self) -> None:
        """Asks it to close its environment and end; does not wait."""
        self._is_ending.set()
        self._inbox.put(None)

    def join(self, timeout_s: float) -> bool:
        """Waits for its end; returns whether it came."""
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def abandon(self) -> threading.Thread | None:
        """Lets go of a thread that does not answer; returns what closes its environment."""
        self._is_abandoned = True
        self.end()
        env, self.env = self.env, None
        if env is None:
            return None
        self._record.gone(*remotes_of(env))
        closer = threading.Thread(
            target=_close_behind, args=(env, self._record), name="slot-closer", daemon=True
        )
        closer.start()
        return closer

    def _run(self, starts_now: bool) -> None:
        if starts_now:
            self._start()
        while (asked := self._inbox.get()) is not None:
            answer = self._begin(asked) if asked.is_reset else self._step(asked)
            if answer is not None and not self._is_abandoned:
                self._answers.put(answer)
        self._retire(is_lost=False)

    def _start(self) -> None:
        """Makes the environment; a failure that may pass is left to the first reset."""
        try:
            env = self._timed(self._made)
        except _ANYTHING as error:
            if not isinstance(error, HOPELESS):
                self._record.failed(error)
            self._answers.put(Answer(thread=self, is_start=True, fatal=error))
            return
        spaces = env.observation_space, env.action_space
        self._answers.put(Answer(thread=self, is_start=True, spaces=spaces))

    def _begin(self, asked: Asked) -> Answer | None:
        """Resets until it works; returns None when it is to end."""
        pause_s = asked.after_s
        options = None if asked.options is None else dict(asked.options)
        while not self._is_ending.wait(pause_s):
            try:
                env = self._timed(lambda: self.env or self._made())
                observation, info = self._timed(
                    partial(env.reset, seed=asked.seed, options=options)
                )
            except _ANYTHING as error:
                if isinstance(error, HOPELESS):
                    return Answer(thread=self, fatal=error)
                if not isinstance(error, RaygymError):
                    self._retire(is_lost=True)
                if self._is_abandoned:
                    break
                pause_s = self._record.failed(error)
            else:
                if self._is_abandoned:
                    # It was closed before it had what its reset brought: a Remote, say.
                    close_quietly(env, is_lost=True)
                    break
                return Answer(thread=self, is_first=True, observation=observation, info=info)
        return None

    def _step(self, asked: Asked) -> Answer:
        env = self.env
        assert env is not None  # noqa: S101  it was reset before
        began_s = time.monotonic()
        try:
            stepped = self._timed(partial(env.step, asked.action))
            observation, reward, terminated, truncated, info = stepped
            return Answer(
                thread=self,
                observation=observation,
                reward=float(reward),
                terminated=bool(terminated),
                truncated=bool(truncated),
                info=info,
                seconds=time.monotonic() - began_s,
            )
        except _ANYTHING as error:
            if isinstance(error, HOPELESS):
                return Answer(thread=self, fatal=error)
            if not isinstance(error, RaygymError):
                self._retire(is_lost=True)
            return Answer(thread=self, truncated=True, info=failure_info(error))

    def _timed(self, work: Callable[[], Any]) -> Any:
        self._busy_since_s = time.monotonic()
        try:
            return work()
        finally:
            self._busy_since_s = None

    def _made(self) -> gymnasium.Env[Any, Any]:
        if self._after is not None:
            self._after.join(_CLOSE_S)
            self._after = None
        env = self._factory(self.slot)
        if self._is_abandoned:
            close_quietly(env, is_lost=True)
            raise RaygymError("it was made too late")
        self.env = env
        self._record.made()
        return env

    def _retire(self, *, is_lost: bool) -> None:
        env, self.env = self.env, None
        if env is not None:
            close_quietly(env, is_lost=is_lost)
            self._record.gone(*remotes_of(env))


def _close_behind(env: gymnasium.Env[Any, Any], record: SlotRecord) -> None:
    _, lost_before = remotes_of(env)
    close_quietly(env, is_lost=True)
    record.gone(0, remotes_of(env)[1] - lost_before)
