"""One live conversation over the reward channel of one Remote."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect as websocket_connect

from raygym.core import Endpoint, Secret
from raygym.errors import (
    HandshakeRefused,
    RaygymError,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
)
from raygym.remote_env.sockets import connect
from raygym.wire.rewarder import request_headers
from raygym.wire.rewarder_client import (
    Closed,
    Described,
    ResetDone,
    ResetRefused,
    RewardBatch,
    RewarderClient,
)

_FIRST_PINGS = 5
_PING_PERIOD_S = 5.0
_FIRST_PING_PERIOD_S = 0.05
_CLOSE_TIMEOUT_S = 1.0
_JOIN_S = 5.0


class RewarderSession:
    """One live conversation over the reward channel of one Remote.

    The socket and the reader thread belong to the session; the Remote does not. Safe to
    use from several threads.

    Args:
        endpoint: Where the Remote speaks the reward protocol.
        password: Its password; None sends an empty one.
        connect_timeout_s: Longest wait for the connection and the first ``describe``.
        is_observer: Watches only; others may act.

    Raises:
        RemoteUnreachable: Nothing answered in time.
        HandshakeRefused: The password is wrong, or another client is active.
        RemoteProtocolError: What answered does not speak the protocol.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        password: Secret | None,
        connect_timeout_s: float = 10.0,
        is_observer: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._client = RewarderClient()
        self._changed = threading.Condition()
        self._lost: RaygymError | None = None
        self._is_closing = False
        self._is_described = False
        self._reset_answer: ResetDone | ResetRefused | None = None
        self._last_message_s = time.monotonic()
        self._pings_sent = 0
        deadline_s = time.monotonic() + connect_timeout_s
        self._stack = contextlib.ExitStack()
        secret = "" if password is None else password.reveal()
        self._websocket = self._connect(
            request_headers(secret, is_observer=is_observer), deadline_s
        )
        self._reader = threading.Thread(
            target=self._read_forever, name=f"rewarder {endpoint}", daemon=True
        )
        self._reader.start()
        try:
            self._wait(lambda: self._is_described, deadline_s, "first describe")
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> RaygymError | None:
        """Why the conversation ended, or None while it lasts."""
        return self._lost

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """What the Remote can do; None from one that does not say (Universe's)."""
        return self._client.manifest

    @property
    def last_message_s(self) -> float:
        """When the newest message came, in seconds of ``time.monotonic``."""
        return self._last_message_s

    @property
    def clock_skew_s(self) -> tuple[float, float] | None:
        """Bounds of the Remote's clock minus ours, in seconds; None before a ping."""
        with self._changed:
            return self._client.clock_skew_s

    @property
    def episode_id(self) -> str | None:
        """Episode that the Remote is in."""
        return self._client.episode_id

    def reset(self, env_id: str, *, seed: int | None, fps: float, timeout_s: float) -> str:
        """Asks for a new episode and waits until it runs.

        Args:
            env_id: Which environment.
            seed: Its seed; None lets the Remote choose.
            fps: Frames a second.
            timeout_s: Longest wait.

        Returns:
            The id of the new episode.

        Raises:
            RemoteUnreachable: No answer came in time.
            RemoteProtocolError: The Remote refused; the message says why.
            SessionLost: The conversation has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._reset_answer = None
            text = self._client.reset(env_id, seed=seed, fps=fps, now_s=time.time())
        self._send(text)
        self._wait(lambda: self._reset_answer is not None, deadline_s, f"reset to {env_id}")
        answer = self._reset_answer
        if isinstance(answer, ResetRefused):
            raise RemoteProtocolError(
                f"{self._endpoint}: the remote refused to reset to {env_id}: {answer.message}"
            )
        assert isinstance(answer, ResetDone)  # noqa: S101  waited for above
        return answer.episode_id

    def await_episode(self, *, after: str, timeout_s: float) -> str:
        """Waits until an episode later than ``after`` runs.

        Returns:
            Its id.

        Raises:
            RemoteUnreachable: None ran in time.
            SessionLost: The conversation has ended.
        """

        def runs() -> bool:
            client = self._client
            return (
                client.env_state == "running"
                and client.episode_id is not None
                and int(client.episode_id) > int(after)
            )

        deadline_s = time.monotonic() + timeout_s
        self._wait(runs, deadline_s, f"episode after {after}")
        assert self._client.episode_id is not None  # noqa: S101  waited for above
        return self._client.episode_id

    def pop(self) -> RewardBatch:
        """Returns the sum of what came since the last call."""
        with self._changed:
            return self._client.pop(now_s=time.time())

    def close(self) -> None:
        """Closes the connection and ends the reader. May be called twice."""
        self._is_closing = True
        self._stack.close()
        self._reader.join(_JOIN_S)

    def _connect(self, headers: list[tuple[str, str]], deadline_s: float) -> Any:
        host = self._endpoint.host or "localhost"
        host = f"[{host}]" if ":" in host else host
        sock = connect(self._endpoint, deadline_s)
        try:
            return self._stack.enter_context(
                websocket_connect(
                    f"ws://{host}:{self._endpoint.port or 80}/",
                    sock=sock,
                    additional_headers=headers,
                    user_agent_header=None,
                    compression=None,
                    proxy=None,
                    open_timeout=max(0.01, deadline_s - time.monotonic()),
                    close_timeout=_CLOSE_TIMEOUT_S,
                    ping_interval=None,
                )
            )
        # The library asserts where the other end hangs up in the middle of its own sending.
        except (OSError, WebSocketException, EOFError, AssertionError) as error:
            sock.close()
            cause = str(error) or "the other end hung up"
            raise RemoteUnreachable(
                f"{self._endpoint}: no WebSocket was opened: {cause}; is it a reward channel?"
            ) from error

    def _send(self, text: str) -> None:
        self._raise_if_lost()
        try:
            self._websocket.send(text)
        except (OSError, WebSocketException) as error:
            self._fail(error)
            self._raise_if_lost()

    def _read_forever(self) -> None:
        next_ping_s = time.monotonic()
        try:
            while not self._is_closing:
                now_s = time.monotonic()
                if now_s >= next_ping_s:
                    self._ping()
                    is_first = self._pings_sent < _FIRST_PINGS
                    next_ping_s = now_s + (_FIRST_PING_PERIOD_S if is_first else _PING_PERIOD_S)
                try:
                    text = self._websocket.recv(timeout=max(0.0, next_ping_s - now_s))
                except TimeoutError:
                    continue
                if not isinstance(text, str):
                    raise RemoteProtocolError(f"{self._endpoint}: sent a binary message")
                self._receive(text)
        except (OSError, WebSocketException, RaygymError) as error:
            self._fail(error)

    def _ping(self) -> None:
        with self._changed:
            text = self._client.ping(now_s=time.time())
        self._pings_sent += 1
        self._websocket.send(text)

    def _receive(self, text: str) -> None:
        now_s = time.time()
        with self._changed:
            self._last_message_s = time.monotonic()
            for event in self._client.receive(text, now_s=now_s):
                if isinstance(event, ResetDone | ResetRefused):
                    self._reset_answer = event
                elif isinstance(event, Described):
                    self._is_described = True
                elif isinstance(event, Closed):
                    raise HandshakeRefused(f"{self._endpoint}: {event.message}")
            self._changed.notify_all()

    def _wait(self, is_there: Callable[[], bool], deadline_s: float, what: str) -> None:
        with self._changed:
            while not is_there():
                self._raise_if_lost()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise RemoteUnreachable(
                        f"{self._endpoint}: no answer on the reward channel in time: {what}"
                    )
                self._changed.wait(left_s)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            if self._lost is None:
                if isinstance(error, HandshakeRefused):
                    self._lost = error
                else:
                    reason = "closed here" if self._is_closing else str(error)
                    self._lost = SessionLost(f"reward channel to {self._endpoint} ended: {reason}")
                    self._lost.__cause__ = error
            self._changed.notify_all()

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise type(self._lost)(self._lost.message) from self._lost
