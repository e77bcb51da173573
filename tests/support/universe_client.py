"""OpenAI Universe's client of the reward channel, as its code reads messages.

Independent of our own client: what would make the original drop a connection or hang is an
assertion here.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect, unix_connect

METHODS = {
    "v0.env.describe",
    "v0.env.reward",
    "v0.env.text",
    "v0.reply.env.reset",
    "v0.reply.control.ping",
    "v0.reply.error",
    "v0.connection.close",
    "v0.raygym.manifest",
}


class UniverseClient:
    """One connection to a reward channel.

    Args:
        path: Its socket; or ``host:port``, as an allocator gives it.
        password: Sent as the user name of Basic authorization.
        observer: Watches only.
        timeout_s: Longest wait for a message.
    """

    def __init__(
        self, path: Path | str, password: str, *, observer: bool = False, timeout_s: float = 5.0
    ) -> None:
        token = base64.b64encode(f"{password}:".encode()).decode()
        self._stack = contextlib.ExitStack()
        headers = {
            "authorization": f"Basic {token}",
            "openai-observer": "true" if observer else "false",
        }
        self.websocket: ClientConnection = self._stack.enter_context(
            connect(f"ws://{path}/", compression=None, additional_headers=headers)
            if isinstance(path, str)
            else unix_connect(
                str(path), uri="ws://localhost/", compression=None, additional_headers=headers
            )
        )
        self._timeout_s = timeout_s
        self._ids = itertools.count()
        self._pending: set[int] = set()
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> UniverseClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, body: dict[str, Any] | None = None, **headers: Any) -> int:
        """Sends a request; returns its message id."""
        message_id = next(self._ids)
        headers = {"message_id": message_id, "sent_at": time.time(), **headers}
        self.websocket.send(json.dumps({"method": method, "headers": headers, "body": body or {}}))
        self._pending.add(message_id)
        return message_id

    def ask_reset(self, env_id: str, *, seed: int | None = None, fps: float = 50) -> int:
        """Asks for an episode with the ``episode_id`` that the original always sends."""
        body = {"env_id": env_id, "seed": seed, "fps": fps}
        return self.send("v0.env.reset", body, episode_id="0")

    def reset(self, env_id: str, *, seed: int | None = None, fps: float = 50) -> str:
        """Asks for an episode and reads on until it is there; returns its id."""
        asked = self.ask_reset(env_id, seed=seed, fps=fps)
        reply = self.until("v0.reply.env.reset")
        assert reply["headers"]["parent_message_id"] == asked
        return reply["headers"]["episode_id"]

    def next(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Returns the next message."""
        text = self.websocket.recv(timeout=self._timeout_s if timeout_s is None else timeout_s)
        assert isinstance(text, str), "a binary frame"
        message = json.loads(text)
        self._check(message)
        self.seen.append(message)
        return message

    def until(self, method: str, **body: Any) -> dict[str, Any]:
        """Reads on to the next message of that method whose body has these values."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            message = self.next(max(0.0, deadline_s - time.monotonic()))
            if message["method"] == method and body.items() <= message["body"].items():
                return message

    def until_running(self) -> None:
        """Reads on until an episode runs, if none does already."""
        described = [m for m in self.seen if m["method"] == "v0.env.describe"]
        if not described or described[-1]["body"]["env_state"] != "running":
            self.until("v0.env.describe", env_state="running")

    def methods(self) -> list[str]:
        """Returns what was seen, by method, with the state where one was described."""
        return [m["body"].get("env_state") or m["method"] for m in self.seen]

    def close(self) -> None:
        """Closes the connection."""
        self._stack.close()

    def _check(self, message: dict[str, Any]) -> None:
        method, headers, body = message["method"], message["headers"], message["body"]
        assert method in METHODS
        assert isinstance(headers["sent_at"], float)
        assert isinstance(headers["message_id"], int)
        if method == "v0.env.describe":
            assert body["env_state"] in (None, "resetting", "running")
            assert isinstance(body["fps"], int | float)
            assert "env_id" in body
        if method == "v0.env.reward":
            assert isinstance(body["reward"], int | float)
            assert isinstance(body["done"], bool)
            assert isinstance(body["info"], dict)
        if method.startswith("v0.env.") or method == "v0.reply.env.reset":
            assert isinstance(headers["episode_id"], str)
            assert str(int(headers["episode_id"])) == headers["episode_id"]
        if method.startswith("v0.reply."):
            self._pending.remove(headers["parent_message_id"])
            assert type(headers["parent_message_id"]) is int
        if method == "v0.connection.close":
            assert "parent_message_id" not in headers
