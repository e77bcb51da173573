"""A Docker engine that answers over a unix socket, and runs nothing."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socketserver
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

API = "1.41"


class FakeContainer:
    """What the engine knows of one container."""

    def __init__(self, container_id: str, name: str, body: dict[str, Any]) -> None:
        self.id = container_id
        self.name = name
        self.body = body
        self.status = "created"
        self.ports: dict[str, Any] = {}

    @property
    def directory(self) -> Path:
        """What is mounted into it."""
        return Path(self.body["HostConfig"]["Mounts"][0]["Source"])

    def inspected(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "State": {"Status": self.status, "Running": self.status == "running"},
            "Config": {"Labels": self.body.get("Labels", {}), "Image": self.body["Image"]},
            "NetworkSettings": {"Ports": self.ports},
        }


class FakeEngine:
    """Containers, images and events by the engine's API.

    ``failures`` holds (status, message) by what is done: ``create``, ``start``, ``delete``,
    ``list``; ``on_start`` is called with a container that starts, and may end it again.
    """

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.containers: dict[str, FakeContainer] = {}
        self.images: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.failures: dict[str, tuple[int, str]] = {}
        self.creations = 0
        self.on_start: Callable[[FakeContainer], None] = lambda container: None
        self.hold = threading.Event()
        self.hold.set()
        self._server = _Server(str(path), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self, container: FakeContainer, code: int, *, is_out_of_memory: bool = False) -> None:
        """Ends a container, which is removed at once."""
        if is_out_of_memory:
            self._tell(container, "oom", {})
        self._tell(container, "die", {"exitCode": str(code)})
        self.containers.pop(container.id, None)

    def find(self, name: str) -> FakeContainer | None:
        """Returns a container by name or id."""
        for container in list(self.containers.values()):
            if name in (container.id, container.name):
                return container
        return None

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Returns the status and the body of an answer."""
        self.hold.wait(10)
        if path in ("/_ping", "/version"):
            return 200, {"ApiVersion": API, "MinAPIVersion": "1.12"}
        if path == "/containers/create":
            return self._create(query["name"], body)
        if path == "/containers/json":
            return self._failure("list") or (200, self._listed())
        if path == "/events":
            return 200, self.events
        if path.startswith("/images/"):
            image = urllib.parse.unquote(path.split("/")[2] + "/" + path.split("/")[3])
            return (200, {"Id": "i"}) if image in self.images else (404, _said("No such image"))
        found = re.fullmatch(r"/containers/([^/]+)(?:/(json|start|logs))?", path)
        assert found is not None, path
        container = self.find(found[1])
        if container is None:
            return 404, _said(f"No such container: {found[1]}")
        if method == "DELETE":
            self.containers.pop(container.id)
            return self._failure("delete") or (204, None)
        if found[2] == "start":
            return self._failure("start") or self._start(container)
        return 200, container.inspected()

    def _create(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        failed = self._failure("create")
        if failed is not None:
            return failed
        if self.find(name) is not None:
            return 409, _said(f'Conflict. The container name "/{name}" is already in use')
        if body["Image"] not in self.images:
            return 404, _said(f"No such image: {body['Image']}")
        self.creations += 1
        container = FakeContainer(f"{self.creations:012x}{0:052x}", name, body)
        self.containers[container.id] = container
        return 201, {"Id": container.id}

    def _start(self, container: FakeContainer) -> tuple[int, Any]:
        is_new = container.status == "created"
        container.status = "running"
        if is_new:
            self.on_start(container)
        return 204, None

    def _listed(self) -> list[dict[str, Any]]:
        return [
            {"Id": c.id, "Labels": c.body.get("Labels", {}), "State": c.status}
            for c in self.containers.values()
            if "raygym.remote" in c.body.get("Labels", {})
        ]

    def _failure(self, doing: str) -> tuple[int, Any] | None:
        failed = self.failures.get(doing)
        return None if failed is None else (failed[0], _said(failed[1]))

    def _tell(self, container: FakeContainer, action: str, attributes: dict[str, str]) -> None:
        actor = {"ID": container.id, "Attributes": {**attributes, "name": container.name}}
        self.events.append({"Action": action, "Actor": actor, "timeNano": time.time_ns()})


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def _said(message: str) -> dict[str, str]:
    return {"message": message}


def _handler_of(engine: FakeEngine) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            path = re.sub(r"^/v[0-9.]+", "", parts.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            status, said = engine.answer(self.command, path, query, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if path == "/events":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in said:
                    self._chunk(json.dumps(event).encode())
                self._chunk(b"")
                return
            data = b"" if said is None else json.dumps(said).encode()
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def address_string(self) -> str:
            return "a client"

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    """Runs one in a directory of its own, whose path is short."""
    directory = Path(tempfile.mkdtemp(prefix="fe-", dir="/tmp"))
    engine = FakeEngine(directory / "s")
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)
