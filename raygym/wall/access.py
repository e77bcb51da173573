"""Who may see the wall, and who may drive."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from raygym.core import Secret
from raygym.errors import ConfigError
from raygym.machine import is_loopback

COOKIE = "raygym-wall"
_TICKET_S = 30.0
_TOKEN_BYTES = 24
_LEAST_TOKEN = 16


def new_token() -> Secret:
    """Returns a token that nobody guesses."""
    return Secret(secrets.token_urlsafe(_TOKEN_BYTES))


@dataclass
class Access:
    """Decides who comes in.

    Without a token, whoever reaches the port of loopback may look; a page of another site that
    makes a browser of this machine ask is refused by its ``Host`` and ``Origin``.

    Raises:
        ConfigError: Another interface than loopback without a token, or a token too short.
    """

    host: str
    """Interface that is listened on."""
    token: Secret | None = field(default=None, repr=False)
    """Opens the wall; None lets everybody in who reaches it."""
    take_over: Secret | None = field(default=None, repr=False)
    """Lets a person drive; None lets nobody."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host}: others would see every screen of the cluster; give --token "
                "as well (without a value it makes one), or stay on 127.0.0.1 and use `ssh -L`"
            )
        for name, token in (("--token", self.token), ("--take-over", self.take_over)):
            if token is not None and len(token.reveal()) < _LEAST_TOKEN:
                raise ConfigError(
                    f"{name}: expected {_LEAST_TOKEN} characters or more, got "
                    f"{len(token.reveal())}; without a value it makes one"
                )
        self._session = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tickets: dict[str, tuple[str, float]] = {}

    @property
    def can_drive(self) -> bool:
        """Whether anybody may."""
        return self.take_over is not None

    @property
    def session(self) -> str:
        """What the cookie of a page that was let in holds."""
        return self._session

    def is_right_token(self, given: str) -> bool:
        """Returns whether this opens the wall."""
        return _is_same(given, self.token)

    def may_look(self, cookies: Mapping[str, str], authorization: str) -> bool:
        """Returns whether a request comes from somebody who was let in.

        Args:
            cookies: Of the request.
            authorization: Its header; ``Bearer TOKEN`` does without a cookie.
        """
        if self.token is None:
            return True
        if hmac.compare_digest(cookies.get(COOKIE, "").encode(), self._session.encode()):
            return True
        kind, _, given = authorization.partition(" ")
        return kind == "Bearer" and self.is_right_token(given)

    def is_ours(self, host: str, origin: str | None) -> bool:
        """Returns whether a request was made by our own page, or by no page at all.

        Args:
            host: The header ``Host``.
            origin: The header ``Origin``; None where there is none.
        """
        name = urlsplit(f"//{host}").hostname or ""
        if self.token is None and not is_loopback(name):
            return False
        return origin is None or urlsplit(origin).netloc == host

    def ticket(self, given: str, key: str) -> str | None:
        """Returns what opens one screen to drive, once and soon; None for a wrong token."""
        if not _is_same(given, self.take_over):
            return None
        now_s = self.clock()
        self._tickets = {t: v for t, v in self._tickets.items() if v[1] > now_s}
        ticket = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tickets[ticket] = (key, now_s + _TICKET_S)
        return ticket

    def is_right_ticket(self, ticket: str, key: str) -> bool:
        """Returns whether a ticket opens that screen now; it is used up."""
        found = self._tickets.pop(ticket, None)
        return found is not None and found[0] == key and found[1] > self.clock()


def _is_same(given: str, token: Secret | None) -> bool:
    return token is not None and hmac.compare_digest(given.encode(), token.reveal().encode())
