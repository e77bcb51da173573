"""The reward channel's messages, as OpenAI Universe's code speaks them.

A message is a JSON object in one WebSocket text frame::

    {"method": str, "headers": {"message_id": int, "sent_at": float, ...}, "body": {...}}

``sent_at`` is unix time in seconds. ``episode_id`` is a string that holds a whole number.
Universe's documentation says otherwise in places; its code decides.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raygym.errors import RemoteProtocolError

PROTOCOL = 1
"""Version of raygym's additions, as the manifest says it."""
MANIFEST = "v0.raygym.manifest"
"""Our own method; Universe's client ignores methods that it does not know."""

DESCRIBE = "v0.env.describe"
REWARD = "v0.env.reward"
TEXT = "v0.env.text"
OBSERVATION = "v0.env.observation"
RESET = "v0.env.reset"
RESET_REPLY = "v0.reply.env.reset"
PING = "v0.control.ping"
PING_REPLY = "v0.reply.control.ping"
ERROR_REPLY = "v0.reply.error"
CLOSE = "v0.connection.close"

_MAX_SHOWN = 120
_MAX_EPISODE_DIGITS = 18


@dataclass(frozen=True)
class Message:
    """One message of either end."""

    method: str
    """What it is about."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """``message_id``, ``sent_at``, and where they apply ``episode_id``,
    ``parent_message_id`` and ``parent_runtime``."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """As the method says."""


def parse_message(text: str) -> Message:
    """Reads a message.

    Raises:
        RemoteProtocolError: It is no JSON object of that form.
    """
    shown = _shortened(text)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"reward channel: not JSON ({error}): {shown!r}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("method"), str):
        raise RemoteProtocolError(f"reward channel: no message with a method: {shown!r}")
    headers, body = raw.get("headers"), raw.get("body", {})
    if not isinstance(headers, dict) or not isinstance(body, dict):
        raise RemoteProtocolError(
            f"reward channel: {raw['method']}: headers and body must be objects: {shown!r}"
        )
    return Message(raw["method"], headers, body)


def format_message(message: Message) -> str:
    """Returns the text of a message."""
    return json.dumps(
        {"method": message.method, "headers": dict(message.headers), "body": dict(message.body)},
        separators=(",", ":"),
    )


def request_headers(password: str, *, is_observer: bool = False) -> list[tuple[str, str]]:
    """Returns the headers that open a connection.

    The password travels as the user name of Basic authorization, with an empty password.
    """
    token = base64.b64encode(f"{password}:".encode()).decode("ascii")
    return [
        ("authorization", f"Basic {token}"),
        ("openai-observer", "true" if is_observer else "false"),
    ]


def password_of(authorization: str | None) -> str:
    """Reads the password out of an Authorization header.

    Raises:
        RemoteProtocolError: There is none, or it is malformed; the message goes to the
            client and holds nothing secret.
    """
    if authorization is None:
        raise RemoteProtocolError("No authorization header supplied")
    scheme, _, token = authorization.partition(" ")
    try:
        user, colon, rest = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        user, colon, rest = "", "", ""
    if scheme != "Basic" or not colon or rest:
        raise RemoteProtocolError("Could not parse authorization header")
    return user


def number(message: Message, where: Mapping[str, Any], key: str) -> float:
    """Returns a finite number of a message's headers or body.

    Raises:
        RemoteProtocolError: It is missing, or something else.
    """
    value = where.get(key)
    if not isinstance(value, bool) and isinstance(value, int | float):
        # A whole number may be too large for a float.
        with contextlib.suppress(OverflowError):
            if math.isfinite(found := float(value)):
                return found
    raise RemoteProtocolError(
        f"reward channel: {message.method}: {key} must be a number, got {_shortened(repr(value))}"
    )


def episode_number(message: Message) -> int:
    """Returns the episode that a message belongs to.

    Raises:
        RemoteProtocolError: Its ``episode_id`` is no string of a whole number.
    """
    value = message.headers.get("episode_id")
    episode = parse_episode(value)
    if episode is None:
        raise RemoteProtocolError(
            f"reward channel: {message.method}: episode_id must be a string that holds a "
            f"whole number, got {_shortened(repr(value))}"
        )
    return episode


def parse_episode(value: object) -> int | None:
    """Returns the number in an ``episode_id``; None if it is no string of a whole number."""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        return None
    return int(value) if len(value) <= _MAX_EPISODE_DIGITS else None


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
