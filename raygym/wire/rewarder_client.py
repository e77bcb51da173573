"""The client's end of the reward channel: texts in, events and texts out; no sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from raygym.errors import RemoteProtocolError
from raygym.wire import rewarder
from raygym.wire.reward_buffer import RewardBatch, RewardBuffer
from raygym.wire.rewarder import Message, episode_number, format_message, number, parse_message

__all__ = [
    "Closed",
    "Described",
    "ManifestArrived",
    "Pong",
    "ResetDone",
    "ResetRefused",
    "RewardArrived",
    "RewardBatch",
    "RewarderClient",
    "RewarderEvent",
    "TextArrived",
]

_SKEW_PINGS = 10
_MAX_PENDING = 100
_STATES = (None, "resetting", "running")


@dataclass(frozen=True)
class Described:
    """The remote said what it is doing."""

    env_id: str | None
    env_state: str | None
    """None before the first episode, ``resetting`` or ``running``."""
    episode_id: str
    fps: float


@dataclass(frozen=True)
class ResetDone:
    """The reset that was asked for is done; the episode runs."""

    episode_id: str
    parent_runtime_s: float | None
    """How long it took, as the remote says."""


@dataclass(frozen=True)
class ResetRefused:
    """The remote answered a request with an error."""

    message: str


@dataclass(frozen=True)
class Pong:
    """A ping was answered."""

    round_trip_s: float


@dataclass(frozen=True)
class RewardArrived:
    """A reward came; ``pop`` sums it."""

    episode_id: str
    reward: float
    done: bool


@dataclass(frozen=True)
class TextArrived:
    """A text came; ``pop`` lists it."""

    episode_id: str
    text: Any


@dataclass(frozen=True)
class ManifestArrived:
    """The remote said what it can do."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class Closed:
    """The remote ends the conversation, and says why."""

    message: str


RewarderEvent: TypeAlias = (
    Described
    | ResetDone
    | ResetRefused
    | Pong
    | RewardArrived
    | TextArrived
    | ManifestArrived
    | Closed
)


class RewarderClient:
    """One conversation over the reward channel, without its socket.

    All times given and returned are unix times in seconds.
    """

    def __init__(self) -> None:
        self.env_id: str | None = None
        """Environment that the remote is in; None before it said so."""
        self.env_state: str | None = None
        """None, ``resetting`` or ``running``."""
        self.episode_id: str | None = None
        """Episode that the remote is in; None before it said so."""
        self.fps: float | None = None
        """Frames a second of the environment."""
        self.manifest: Mapping[str, Any] | None = None
        """What the remote can do; None from one that does not say."""
        self._buffer = RewardBuffer()
        self._next_id = 0
        self._pending: dict[int, tuple[str, float]] = {}
        self._skews: deque[tuple[float, float]] = deque(maxlen=_SKEW_PINGS)

    @property
    def clock_skew_s(self) -> tuple[float, float] | None:
        """Bounds of the remote's clock minus ours, in seconds; None before a ping's answer.

        A reply sent at b, to a request sent at a, that came at c: the skew is within
        b - c to b - a. The bounds are what the newest ten pings agree on; where a clock was
        set between them, those of the ping that was answered fastest.
        """
        if not self._skews:
            return None
        low, high = max(low for low, _ in self._skews), min(high for _, high in self._skews)
        return (low, high) if low <= high else min(self._skews, key=lambda s: s[1] - s[0])

    def reset(self, env_id: str, *, seed: int | None, fps: float, now_s: float) -> str:
        """Returns the text that asks for a new episode; until the answer, nothing counts."""
        self._buffer.mask()
        body = {"env_id": env_id, "seed": seed, "fps": fps}
        return self._request(rewarder.RESET, body, now_s, episode_id=self.episode_id or "0")

    def ping(self, *, now_s: float) -> str:
        """Returns the text of a ping."""
        return self._request(rewarder.PING, {}, now_s)

    def pop(self, *, now_s: float) -> RewardBatch:  # noqa: ARG002
        """Returns what came since the last call; see ``RewardBuffer``."""
        return self._buffer.pop()

    def receive(self, text: str, *, now_s: float) -> list[RewarderEvent]:
        """Takes one text frame and returns what it meant; unknown methods mean nothing.

        Raises:
            RemoteProtocolError: The message is malformed.
        """
        message = parse_message(text)
        number(message, message.headers, "sent_at")
        handler = {
            rewarder.DESCRIBE: self._on_describe,
            rewarder.REWARD: self._on_reward,
            rewarder.TEXT: self._on_text,
            rewarder.MANIFEST: self._on_manifest,
            rewarder.CLOSE: self._on_close,
            rewarder.RESET_REPLY: self._on_reply,
            rewarder.PING_REPLY: self._on_reply,
            rewarder.ERROR_REPLY: self._on_reply,
        }.get(message.method)
        return [] if handler is None else handler(message, now_s)

    def _on_describe(self, message: Message, _: float) -> list[RewarderEvent]:
        body = message.body
        episode = episode_number(message)
        state, env_id = body.get("env_state"), body.get("env_id")
        if state not in _STATES:
            raise RemoteProtocolError(
                f"reward channel: {message.method}: env_state must be null, resetting or "
                f"running, got {state!r}"
            )
        if env_id is not None and not isinstance(env_id, str):
            raise RemoteProtocolError(
                f"reward channel: {message.method}: env_id must be a text or null, got {env_id!r}"
            )
        self.fps = number(message, body, "fps")
        self.env_id, self.env_state, self.episode_id = env_id, state, str(episode)
        self._buffer.described(episode)
        return [Described(env_id, state, str(episode), self.fps)]

    def _on_reward(self, message: Message, _: float) -> list[RewarderEvent]:
        body = message.body
        reward, done, info = number(message, body, "reward"), body.get("done"), body.get("info")
        if not isinstance(done, bool) or not isinstance(info, dict):
            raise RemoteProtocolError(
                f"reward channel: {message.method}: done must be a boolean and info an object, "
                f"got {done!r} and {type(info).__name__}"
            )
        episode = episode_number(message)
        self._buffer.reward(
            episode, reward, is_done=done, info=info, sent_at_s=float(message.headers["sent_at"])
        )
        return [RewardArrived(str(episode), reward, done)]

    def _on_text(self, message: Message, _: float) -> list[RewarderEvent]:
        episode = episode_number(message)
        self._buffer.text(episode, message.body.get("text"))
        return [TextArrived(str(episode), message.body.get("text"))]

    def _on_manifest(self, message: Message, _: float) -> list[RewarderEvent]:
        self.manifest = message.body
        return [ManifestArrived(message.body)]

    def _on_close(self, message: Message, _: float) -> list[RewarderEvent]:
        return [Closed(str(message.body.get("message", "no reason given")))]

    def _on_reply(self, message: Message, now_s: float) -> list[RewarderEvent]:
        parent = message.headers.get("parent_message_id")
        if isinstance(parent, bool) or not isinstance(parent, int) or parent not in self._pending:
            return []
        method, sent_s = self._pending.pop(parent)
        if message.method == rewarder.ERROR_REPLY:
            return [ResetRefused(str(message.body.get("message", "no reason given")))]
        if message.method == rewarder.PING_REPLY and method == rewarder.PING:
            remote_s = float(message.headers["sent_at"])
            self._skews.append((remote_s - now_s, remote_s - sent_s))
            return [Pong(now_s - sent_s)]
        if message.method == rewarder.RESET_REPLY and method == rewarder.RESET:
            return [self._reset_done(message)]
        return []

    def _reset_done(self, message: Message) -> ResetDone:
        episode = episode_number(message)
        self._buffer.unmask(episode)
        if message.headers.get("parent_runtime") is None:
            return ResetDone(str(episode), None)
        return ResetDone(str(episode), number(message, message.headers, "parent_runtime"))

    def _request(
        self, method: str, body: Mapping[str, Any], now_s: float, *, episode_id: str | None = None
    ) -> str:
        message_id = self._next_id
        self._next_id += 1
        self._pending[message_id] = (method, now_s)
        while len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        headers: dict[str, Any] = {"message_id": message_id, "sent_at": now_s}
        if episode_id is not None:
            headers["episode_id"] = episode_id
        return format_message(Message(method, headers, body))
