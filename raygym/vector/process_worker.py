"""The child's side of ProcessSlots: makes some slots' environments and steps them in turn.

The words that it hears and says are single bytes in front of a message; see ``Word``.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import faulthandler
import logging
import os
import pickle
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import gymnasium
import numpy as np

from raygym.core import Outcome
from raygym.errors import RaygymError
from raygym.vector.channel import Channel
from raygym.vector.remote_counts import Remotes
from raygym.vector.shared_block import Block, BlockLayout
from raygym.vector.slot_record import HOPELESS, EnvFactory, is_array_space, remote_of, remotes_of

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_ANSWER_AFTER_S = 0.0005
"""Answers are collected for so long while more slots wait for their turn."""


class Word(bytes, enum.Enum):
    """The first byte of a message."""

    SET_UP = b"U"
    """To the child, first: a pickled SetUp, perhaps with the descriptor of the block."""
    ATTACH = b"B"
    """To the child: a pickled BlockLayout with the block's descriptor."""
    MAKE = b"M"
    """To the child: a pickled slot, whose environment is to be made. Back, whenever one was
    made: pickled (slot, observation space, action space)."""
    RESET = b"R"
    """To the child: pickled (slot, seed, options, whether to make the environment anew)."""
    STEP = b"S"
    """To the child: int32 slots, whose actions lie in the block."""
    STEP_PICKLED = b"P"
    """To the child: pickled pairs of slot and action."""
    QUIT = b"Q"
    """To the child: close all and end."""
    READY = b"H"
    """From the child: it runs."""
    ANSWER = b"A"
    """From the child: uint32 n, n int32 slots, and pickled ``{slot: (info, observation)}`` of
    those that have either (the observation where it does not lie in the block)."""
    REMOTES = b"N"
    """From the child: pickled (slot, Remotes), where these have changed."""
    FAILED = b"F"
    """From the child: a pickled Failed."""


@dataclass(frozen=True)
class SetUp:
    """What a child needs to know."""

    process: int
    """Its number among the processes."""
    factory: bytes
    """By cloudpickle."""
    layout: BlockLayout | None
    """Of the block that comes along; None while nobody knows the spaces."""


@dataclass(frozen=True)
class Failed:
    """An environment raised."""

    slot: int
    outcome: Outcome
    reason: str
    """With the traceback."""
    fatal: Exception | None = None
    """What was raised, where another try would not help."""


@dataclass
class _Told:
    """Answers that were not sent yet."""

    slots: list[int] = field(default_factory=list)
    extras: dict[int, tuple[Mapping[str, Any] | None, Any]] = field(default_factory=dict)
    since_s: float = 0.0


class Worker:
    """Does what the channel says, a slot after another.

    Args:
        channel: To the parent; blocks.
        set_up: What the parent said first.
        block: Shared with it; None until the spaces are known.
    """

    def __init__(self, channel: Channel, set_up: SetUp, block: Block | None) -> None:
        self._channel = channel
        self._process = set_up.process
        self._pickled = set_up.factory
        self._factory: EnvFactory | None = None
        self._block = block
        self._envs: dict[int, gymnasium.Env[Any, Any]] = {}
        self._waiting: deque[tuple[Word, int, Any]] = deque()
        self._told = _Told()
        self._remotes: dict[int, Remotes] = {}

    def run(self) -> None:
        """Returns when it is told to quit, or nobody is left to tell it anything."""
        self._channel.send(Word.READY.value)
        try:
            while True:
                if not self._waiting:
                    self._flush()
                    received = self._channel.recv()
                    if received is None or not self._hear(*received):
                        return
                    continue
                self._do(*self._waiting.popleft())
                told = self._told
                if told.slots and time.monotonic() - told.since_s > _ANSWER_AFTER_S:
                    self._flush()
        except (EOFError, ConnectionError):
            return
        finally:
            for slot in list(self._envs):
                self._drop(slot)

    def _hear(self, message: bytes, fds: tuple[int, ...]) -> bool:
        word, body = Word(message[:1]), message[1:]
        if word is Word.STEP:
            self._waiting.extend((word, s, None) for s in np.frombuffer(body, np.int32).tolist())
        elif word is Word.STEP_PICKLED:
            self._waiting.extend((word, slot, action) for slot, action in pickle.loads(body))  # noqa: S301  from our parent
        elif word is Word.ATTACH:
            self._block = Block(pickle.loads(body), fds[0])  # noqa: S301
            os.close(fds[0])
        elif word is Word.QUIT:
            return False
        else:
            slot, *rest = pickle.loads(body)  # noqa: S301
            self._waiting.append((word, slot, rest))
        return True

    def _do(self, word: Word, slot: int, what: Any) -> None:
        self._note(slot)
        try:
            if word is Word.MAKE:
                self._make(slot)
            elif word is Word.RESET:
                self._reset(slot, *what)
            else:
                self._step(slot, word, what)
        # Whatever an environment raises, SystemExit included, ends its episode and no more.
        except BaseException as error:  # noqa: BLE001
            self._fail(slot, error)
        self._note(-1)

    def _note(self, slot: int) -> None:
        if self._block is not None:
            self._block.began_s[self._process] = time.monotonic()
            self._block.current[self._process] = slot

    def _fail(self, slot: int, error: BaseException) -> None:
        self._flush()
        is_ours = isinstance(error, RaygymError)
        outcome = Outcome.INFRA_FAILURE if is_ours else Outcome.ENV_FAILURE
        text = "".join(traceback.format_exception(error)).rstrip()
        said = f"{type(error).__name__}: {error}"
        fatal = error if isinstance(error, HOPELESS) else None
        failed = Failed(slot, outcome, f"{said}\n{text}", fatal)
        self._drop(slot)
        self._channel.send(Word.FAILED.value + pickle.dumps(failed))

    def _drop(self, slot: int) -> None:
        env = self._envs.pop(slot, None)
        self._remotes.pop(slot, None)
        if env is None:
            return
        try:
            env.close()  # type: ignore[no-untyped-call]
        # An environment that broke may break once more as it goes.
        except BaseException as error:  # noqa: BLE001
            logger.debug("environment.close_failed slot=%d error=%r", slot, error)

    def _make(self, slot: int) -> gymnasium.Env[Any, Any]:
        env = self._envs.get(slot)
        if env is not None:
            return env
        if self._factory is None:
            self._factory = cloudpickle.loads(self._pickled)
        env = self._envs[slot] = self._factory(slot)
        told = (slot, env.observation_space, env.action_space)
        self._channel.send(Word.MAKE.value + cloudpickle.dumps(told))
        return env

    def _reset(
        self, slot: int, seed: int | None, options: dict[str, Any] | None, is_anew: bool
    ) -> None:
        if is_anew:
            self._drop(slot)
        env = self._make(slot)
        self._note(slot)
        observation, info = env.reset(seed=seed, options=options)
        remotes = Remotes(*remotes_of(env), *remote_of(env))
        if remotes != self._remotes.get(slot, Remotes()):
            self._remotes[slot] = remotes
            self._channel.send(Word.REMOTES.value + pickle.dumps((slot, remotes)))
        self._answer(slot, observation, 0.0, False, False, info)

    def _step(self, slot: int, word: Word, action: Any) -> None:
        env, block = self._envs[slot], self._block
        assert block is not None  # noqa: S101  attached before the first reset
        if word is Word.STEP:
            # A copy: the environment may keep it, and the next one is written over it.
            action = block.actions[slot].copy()[()]
        began_s = time.monotonic()
        observation, reward, terminated, truncated, info = env.step(action)
        block.step_s[slot] = time.monotonic() - began_s
        self._answer(slot, observation, float(reward), bool(terminated), bool(truncated), info)

    def _answer(
        self,
        slot: int,
        observation: Any,
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        block, told = self._block, self._told
        assert block is not None  # noqa: S101
        is_shared = is_array_space(self._envs[slot].observation_space)
        if is_shared:
            place = block.layout.observation[0]
            if np.shape(observation) != place:
                raise ValueError(
                    f"the observation has the shape {np.shape(observation)}, and its space {place}"
                )
            block.observations[block.sides[slot], slot] = observation
        block.rewards[slot] = reward
        block.terminated[slot] = terminated
        block.truncated[slot] = truncated
        if info or not is_shared:
            told.extras[slot] = (info, None if is_shared else observation)
        if not told.slots:
            told.since_s = time.monotonic()
        told.slots.append(slot)

    def _flush(self) -> None:
        told = self._told
        if not told.slots:
            return
        slots = np.array([len(told.slots), *told.slots], np.int32).tobytes()
        extras = _dumps(told.extras) if told.extras else b""
        self._told = _Told()
        self._channel.send(Word.ANSWER.value + slots + extras)


def _dumps(extras: Any) -> bytes:
    try:
        return pickle.dumps(extras, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        return bytes(cloudpickle.dumps(extras))


def main(fd: int, log_fd: int, parent: int) -> None:
    """Runs a worker.

    Args:
        fd: Of its end of the channel.
        log_fd: Where it tells what its threads did when it crashed, or was asked (SIGUSR1).
        parent: Process with which it dies.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    # The parent ends its children in its own time; a key press reaches it alone.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(log_fd)
    faulthandler.register(signal.SIGUSR1, log_fd)
    channel = Channel(socket.socket(fileno=fd))
    received = channel.recv()
    if received is None:
        return
    message, fds = received
    set_up: SetUp = pickle.loads(message[1:])  # noqa: S301
    block = None
    if set_up.layout is not None:
        block = Block(set_up.layout, fds[0])
        os.close(fds[0])
    Worker(channel, set_up, block).run()
