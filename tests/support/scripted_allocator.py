"""An allocator that answers what a test tells it, whatever is asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from raygym.remote_env.allocator_address import AllocatorAddress, parse_allocator

Reply = tuple[int, Any]
"""Status and body: bytes as they are, anything else as JSON."""


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass
class ScriptedAllocator:
    """What it was asked, and what it answers."""

    answer: Callable[[Asked], Reply]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    def address(self, token: str = "", query: str = "") -> AllocatorAddress:
        """Returns where it is."""
        before = f"{token}@" if token else ""
        return parse_allocator(f"http://{before}127.0.0.1:{self.port}{query}")


def entry(name: str = "a-1", **more: Any) -> dict[str, Any]:
    """Returns an allocation that is there, at ports where nobody listens."""
    return {
        "name": name,
        "handle": "0",
        "status": "allocated",
        "vnc_address": "127.0.0.1:5900",
        "vnc_password": "openai",
        "rewarder_address": "127.0.0.1:15900",
        "rewarder_password": "openai",
        **more,
    }


def envs(*entries: dict[str, Any], **info: Any) -> Reply:
    """Returns an answer with these allocations."""
    return 200, {"env_n": list(entries), "info": {"n": [{"new": True} for _ in entries], **info}}


@contextlib.contextmanager
def scripted_allocator(answer: Callable[[Asked], Reply]) -> Iterator[ScriptedAllocator]:
    """Serves on a free port of loopback."""
    allocator = ScriptedAllocator(answer)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                self.command,
                self.path,
                self.headers.get("Authorization"),
                json.loads(data) if data else None,
            )
            allocator.asked.append(asked)
            status, body = allocator.answer(asked)
            said = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815  names of the base class

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    allocator.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield allocator
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
