"""The way to the environments of one server, opened again when it was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import gymnasium

from raygym.errors import RaygymError, RemoteProtocolError, RemoteUnreachable, SessionLost
from raygym.remote_env.rpc.session import LockstepSession, MakeOptions, Rows

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

PASSING = ("refused", "silent", "lost", "too_many_streams")
"""Values of an error's ``problem`` that may be gone a moment later."""


class OpenSession(Protocol):
    """Connects to a server and says Hello."""

    def __call__(self, *, timeout_s: float) -> LockstepSession:
        """Returns a new session.

        Raises:
            RemoteError, ProtocolError: The server is out of reach, or refuses.
        """


class Link:
    """Holds the session with one server, and makes the same environments again in a new one.

    Args:
        open_session: Connects.
        options: What to make.
        connect_timeout_s: Longest wait for a connection.
        start_timeout_s: Longest wait for the environments to be made.
        clock: Seconds that only grow, as ``time.monotonic``.
        sleep: Waits, in seconds.

    Raises:
        ConfigError: The server knows no such environment, or refuses an option.
        RemoteError, ProtocolError: The server is out of reach, or refuses.
    """

    def __init__(
        self,
        open_session: OpenSession,
        options: MakeOptions,
        *,
        connect_timeout_s: float,
        start_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_session = open_session
        self._options = options
        self._connect_timeout_s = connect_timeout_s
        self._start_timeout_s = start_timeout_s
        self._clock = clock
        self._sleep = sleep
        self.sessions_lost = 0
        """How many conversations were lost so far."""
        self.session: LockstepSession | None = self._make(connect_timeout_s)
        """None after a loss, and when closed."""
        self.observation_space: gymnasium.Space[Any] = self.session.observation_space
        self.action_space: gymnasium.Space[Any] = self.session.action_space
        self.metadata = self.session.metadata

    def ensure(self) -> LockstepSession:
        """Returns the session, a new one if there is none; its environments were never reset.

        Tries again for ``connect_timeout_s`` where a server may just be starting.

        Raises:
            RemoteError, ProtocolError: The server is out of reach, or refuses.
        """
        if self.session is not None:
            return self.session
        deadline_s = self._clock() + self._connect_timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            left_s = max(deadline_s - self._clock(), _FIRST_PAUSE_S)
            try:
                session = self._make(left_s)
                break
            except (RemoteUnreachable, SessionLost) as error:
                problem = error.fields.get("problem", "lost")
                left_s = deadline_s - self._clock()
                if problem not in PASSING or left_s <= 0:
                    raise
                self._sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        seen = session.observation_space, session.action_space
        if seen != (self.observation_space, self.action_space):
            session.close()
            raise RemoteProtocolError(
                f"{session.name} came back with other spaces: {seen[0]} and {seen[1]}, before it "
                f"had {self.observation_space} and {self.action_space}"
            )
        log.info("rpc.connected_again name=%s losses=%d", session.name, self.sessions_lost)
        self.session = session
        return session

    def forget_if_lost(self, cause: Exception) -> bool:
        """Gives up a session that is over; returns whether it is."""
        session = self.session
        if session is None or not session.is_closed:
            return session is None
        self.session = None
        self.sessions_lost += 1
        log.warning("rpc.session_lost name=%s cause=%s", session.name, cause)
        return True

    def close(self) -> None:
        """Ends the session; may be called twice."""
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _make(self, timeout_s: float) -> LockstepSession:
        session = self._open_session(timeout_s=timeout_s)
        try:
            session.make(self._options, timeout_s=self._start_timeout_s)
        except OSError as error:
            session.close()
            log.warning("rpc.no_shared_memory name=%s cause=%s", session.name, error)
            self._options = replace(self._options, wants_shared_memory=False)
            return self._make(timeout_s)
        except BaseException:
            session.close()
            raise
        return session

    def reset(self, ask: Callable[[LockstepSession], Rows]) -> Rows:
        """Asks for a reset; once more on a new connection where the old one was found lost.

        Args:
            ask: Sends it.

        Raises:
            RemoteError, ProtocolError: The server is out of reach, or refuses.
        """
        is_fresh = self.session is None
        try:
            return ask(self.ensure())
        except SessionLost as error:
            if not self.forget_if_lost(error) or is_fresh:
                raise
        except RaygymError as error:
            self.forget_if_lost(error)
            raise
        try:
            return ask(self.ensure())
        except RaygymError as error:
            self.forget_if_lost(error)
            raise
