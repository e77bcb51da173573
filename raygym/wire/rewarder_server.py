"""The server's end of the reward channel: who is connected, and which episode it is.

Texts in, texts out; no sockets, no clocks: times are unix seconds that the caller passes.
What must be sent is returned as ``Send`` and ``Close``. A reset that a client asks for comes
back as ``ResetRequested``; its owner does the work and reports it with ``resetting`` and
``running``, or ``refuse``.

The order that Universe's client relies on: ``done`` of episode N, ``describe`` (resetting,
N + 1), ``describe`` (running, N + 1), and only then the reply to who asked.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raygym.errors import RemoteProtocolError
from raygym.gym_ids import ANY_ENV
from raygym.wire import rewarder
from raygym.wire.rewarder import (
    Message,
    format_message,
    parse_episode,
    parse_message,
    password_of,
)

MAX_FPS = 60
CLOSE_NORMAL = 1000
_SECOND_CLIENT = (
    "The rewarder already has an active client. (HINT: connect as an observer, or use "
    "another remote: give each agent its own client_id.)"
)


@dataclass(frozen=True)
class Send:
    """A text to send."""

    connection: int
    text: str


@dataclass(frozen=True)
class Close:
    """A connection to close, after what was sent to it before."""

    connection: int
    reason: str
    code: int = CLOSE_NORMAL


@dataclass(frozen=True)
class ResetRequested:
    """A client asks for a new episode; ``request`` goes back with the answer."""

    env_id: str
    seed: int | None
    fps: float
    request: Request


@dataclass(frozen=True)
class Request:
    """What a reply needs to know of the request."""

    connection: int
    message_id: Any
    """As the client sent it, so that it finds it again."""
    received_s: float
    episode: int
    """The episode that the client believed to be in; 0 from Universe's client, always."""


Output: TypeAlias = Send | Close | ResetRequested


@dataclass
class _Connection:
    is_observer: bool
    message_ids: Iterator[int] = field(default_factory=itertools.count)


class RewarderServer:
    """The state that all clients of one remote share.

    Args:
        password: What clients must know.
        env_ids: The environments that may be asked for; ``ANY_ENV`` for whatever the client likes.
        fps: Frames a second until a client asks for another rate.
        manifest: Sent to each client after its first ``describe``.
    """

    def __init__(
        self,
        *,
        password: str,
        env_ids: Sequence[str],
        fps: float,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        self.env_id: str | None = None
        """What is played; None before the first reset."""
        self.env_state: str | None = None
        """None, ``resetting`` or ``running``."""
        self.episode = 0
        """Number of the episode."""
        self.fps = fps
        """Frames a second."""
        self._password = password
        self._env_ids = frozenset(env_ids)
        self._manifest = manifest
        self._connections: dict[int, _Connection] = {}
        self._active: int | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected, observers included."""
        return len(self._connections)

    def connect(
        self, connection: int, *, authorization: str | None, is_observer: bool, now_s: float
    ) -> list[Output]:
        """Takes in a client whose WebSocket is open, or turns it away."""
        try:
            password = password_of(authorization)
            if not hmac.compare_digest(password.encode(), self._password.encode()):
                raise RemoteProtocolError("Invalid password")
        except RemoteProtocolError as error:
            # A stranger is told why, and never learns of an episode.
            return _turn_away(connection, itertools.count(), error.message, now_s)
        self._connections[connection] = _Connection(is_observer)
        outputs: list[Output] = [self._describe(connection, now_s)]
        if self._manifest is not None:
            outputs.append(self._send(connection, rewarder.MANIFEST, self._manifest, now_s))
        return outputs

    def disconnect(self, connection: int) -> None:
        """Forgets a client; unknown ones are ignored."""
        self._connections.pop(connection, None)
        if self._active == connection:
            self._active = None

    def receive(self, connection: int, text: str, *, now_s: float) -> list[Output]:
        """Takes one text frame of a client. A malformed one closes its connection."""
        sender = self._connections.get(connection)
        if sender is None:
            return []
        try:
            message = parse_message(text)
        except RemoteProtocolError as error:
            return self._turn_out(connection, error.message, now_s)
        if not sender.is_observer:
            if self._active not in (None, connection):
                return self._turn_out(connection, _SECOND_CLIENT, now_s)
            self._active = connection
        request = self._request(connection, message, now_s)
        if message.method == rewarder.PING:
            return [self._reply(request, rewarder.PING_REPLY, {}, now_s)]
        if message.method == rewarder.RESET:
            return self._on_reset(sender, request, message.body, now_s)
        return []

    def resetting(self, env_id: str, *, now_s: float, request: Request | None = None) -> list[Send]:
        """Begins the next episode, asked for by ``request`` or by the end of the last."""
        past = 0 if request is None else request.episode
        self.episode = max(past, self.episode) + 1
        self.env_id, self.env_state = env_id, "resetting"
        return self._describe_all(now_s)

    def running(self, *, now_s: float, requests: Sequence[Request] = ()) -> list[Send]:
        """The episode runs; answers those who asked for it."""
        self.env_state = "running"
        described = self._describe_all(now_s)
        replies = [
            self._reply(
                request,
                rewarder.RESET_REPLY,
                {},
                now_s,
                {"episode_id": str(self.episode), "parent_runtime": now_s - request.received_s},
            )
            for request in requests
            if request.connection in self._connections
        ]
        return [*described, *replies]

    def refuse(self, request: Request, reason: str, *, now_s: float) -> list[Send]:
        """Answers a request with an error."""
        if request.connection not in self._connections:
            return []
        runtime = {"parent_runtime": now_s - request.received_s}
        return [self._reply(request, rewarder.ERROR_REPLY, {"message": reason}, now_s, runtime)]

    def reward(
        self, reward: float, *, done: bool, info: Mapping[str, Any], now_s: float
    ) -> list[Send]:
        """Tells everybody of a reward of the present episode."""
        body = {"reward": reward, "done": done, "info": dict(info)}
        return self._send_all(rewarder.REWARD, body, now_s)

    def text(self, text: Any, *, now_s: float) -> list[Send]:
        """Tells everybody a text: any JSON."""
        return self._send_all(rewarder.TEXT, {"text": text}, now_s)

    def close_all(self, reason: str, *, now_s: float) -> list[Output]:
        """Tells everybody that this is the end."""
        return [o for c in list(self._connections) for o in self._turn_out(c, reason, now_s)]

    def _on_reset(
        self, sender: _Connection, request: Request, body: Mapping[str, Any], now_s: float
    ) -> list[Output]:
        env_id, seed, fps = body.get("env_id"), body.get("seed"), body.get("fps")
        if sender.is_observer:
            return [*self.refuse(request, "observers cannot reset", now_s=now_s)]
        if not isinstance(env_id, str) or self._env_ids.isdisjoint({env_id, ANY_ENV}):
            known = ", ".join(sorted(self._env_ids))
            reason = f"unknown env_id {env_id!r}. This remote has: {known}"
            return [*self.refuse(request, reason, now_s=now_s)]
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            reason = f"seed must be a whole number or null, got {seed!r}"
            return [*self.refuse(request, reason, now_s=now_s)]
        if isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps <= MAX_FPS:
            self.fps = float(fps)
        return [ResetRequested(env_id, seed, self.fps, request)]

    def _request(self, connection: int, message: Message, now_s: float) -> Request:
        episode = parse_episode(message.headers.get("episode_id")) or 0
        return Request(connection, message.headers.get("message_id"), now_s, episode)

    def _turn_out(self, connection: int, reason: str, now_s: float) -> list[Output]:
        ids = self._connections[connection].message_ids
        self.disconnect(connection)
        return _turn_away(connection, ids, reason, now_s)

    def _describe_all(self, now_s: float) -> list[Send]:
        return [self._describe(connection, now_s) for connection in self._connections]

    def _describe(self, connection: int, now_s: float) -> Send:
        body = {"env_id": self.env_id, "env_state": self.env_state, "fps": self.fps}
        return self._send(
            connection, rewarder.DESCRIBE, body, now_s, {"episode_id": str(self.episode)}
        )

    def _send_all(self, method: str, body: Mapping[str, Any], now_s: float) -> list[Send]:
        headers = {"episode_id": str(self.episode)}
        return [self._send(c, method, body, now_s, headers) for c in self._connections]

    def _reply(
        self,
        request: Request,
        method: str,
        body: Mapping[str, Any],
        now_s: float,
        headers: Mapping[str, Any] | None = None,
    ) -> Send:
        parent = {"parent_message_id": request.message_id}
        return self._send(request.connection, method, body, now_s, {**parent, **(headers or {})})

    def _send(
        self,
        connection: int,
        method: str,
        body: Mapping[str, Any],
        now_s: float,
        headers: Mapping[str, Any] | None = None,
    ) -> Send:
        ids = self._connections[connection].message_ids
        return _message(connection, ids, method, body, now_s, headers)


def _message(
    connection: int,
    ids: Iterator[int],
    method: str,
    body: Mapping[str, Any],
    now_s: float,
    headers: Mapping[str, Any] | None = None,
) -> Send:
    own = {"message_id": next(ids), "sent_at": now_s}
    return Send(connection, format_message(Message(method, {**own, **(headers or {})}, body)))


def _turn_away(connection: int, ids: Iterator[int], reason: str, now_s: float) -> list[Output]:
    farewell = _message(connection, ids, rewarder.CLOSE, {"message": reason}, now_s)
    # A WebSocket's close reason has at most 123 bytes (RFC 6455 5.5).
    return [farewell, Close(connection, reason.encode()[:120].decode(errors="ignore"))]
