"""Plays a SWF frame by frame in a headless Chromium whose page clock belongs to the test."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PAGE = Path(__file__).with_name("flash_bench.html")
FRAME_MS = 40
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,MediaRouter,OptimizationHints",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
]


class FlashBench:
    """One SWF in one browser; the game stands still between calls.

    Owns the browser, its profile folder and a web server on a port that the system chose;
    all are gone after ``close``.

    Args:
        swf: The file to play.
        ruffle_dir: Folder of the Flash player's ``ruffle.js``.
        size_px: Size of the page.
        is_drawing: False keeps the page's canvas empty, which is faster and changes no rule.
        timeout_s: Longest wait for one answer of the browser.
    """

    def __init__(
        self,
        swf: Path,
        ruffle_dir: Path,
        *,
        size_px: tuple[int, int] = (640, 480),
        is_drawing: bool = True,
        timeout_s: float = 60.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._next_id = 0
        self._unread = b""
        files = {"/": PAGE, "/game.swf": swf}
        handler = functools.partial(_Handler, files=files, ruffle_dir=ruffle_dir)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._profile = tempfile.TemporaryDirectory(
            prefix="flash-bench-", ignore_cleanup_errors=True
        )
        self._browser, self._to_browser, self._from_browser = self._launch(size_px)
        query = "" if is_drawing else "?blind"
        try:
            self._session = self._open_page(f"http://127.0.0.1:{self._server.server_port}/{query}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FlashBench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def reset(self, seed: int) -> dict[str, Any]:
        """Starts the episode of that seed; returns as ``step`` does."""
        return self.evaluate(f"bench.reset({int(seed)})")

    def step(self, keys: Sequence[str], frames: int = 2) -> dict[str, Any]:
        """Holds exactly ``keys`` for some frames.

        Returns:
            ``score``, ``over``, ``frame`` as last reported, and ``state`` of the game.
        """
        return self.evaluate(f"bench.step({json.dumps(list(keys))},{frames})")

    def play(self, held: Sequence[Sequence[str]], frames: int = 2) -> list[float]:
        """Holds each entry of ``held`` for some frames, within one call.

        Returns:
            The score after each, up to the end of the episode.
        """
        return self.evaluate(f"bench.play({json.dumps([list(k) for k in held])},{frames})")

    def screenshot(self, path: Path) -> None:
        """Writes what the page shows as PNG."""
        self.evaluate("bench.painted()")
        data = self._call("Page.captureScreenshot", {"format": "png"}, self._session)["data"]
        path.write_bytes(base64.b64decode(data))

    def evaluate(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression in the page, awaited if need be."""
        answer = self._call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True},
            self._session,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression[:80]}: {json.dumps(answer['exceptionDetails'])[:600]}")
        return answer["result"].get("value")

    def close(self) -> None:
        """Ends the browser and the web server. May be called twice."""
        if self._browser.poll() is None:
            self._browser.terminate()
            try:
                self._browser.wait(5)
            except subprocess.TimeoutExpired:
                self._browser.kill()
                self._browser.wait(5)
        for descriptor in (self._to_browser, self._from_browser):
            if descriptor >= 0:
                os.close(descriptor)
        self._to_browser = self._from_browser = -1
        self._server.shutdown()
        self._server.server_close()
        self._profile.cleanup()

    def _launch(self, size_px: tuple[int, int]) -> tuple[subprocess.Popen[bytes], int, int]:
        commands_in, commands_out = os.pipe()
        answers_in, answers_out = os.pipe()
        script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        command = [
            *("bash", "-c", script, "bash", str(commands_in), str(answers_out)),
            *("setpriv", "--pdeathsig", "KILL"),
            os.environ.get("RAYGYM_CHROMIUM", "chromium"),
            *FLAGS,
            f"--user-data-dir={self._profile.name}",
            f"--window-size={size_px[0]},{size_px[1]}",
            "about:blank",
        ]
        browser = subprocess.Popen(
            command,
            pass_fds=(commands_in, answers_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name},
        )
        os.close(commands_in)
        os.close(answers_out)
        self._size_px = size_px
        return browser, commands_out, answers_in

    def _open_page(self, url: str) -> str:
        targets = self._call("Target.getTargets", {})["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = str(attached["sessionId"])
        width, height = self._size_px
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", metrics, self._session)
        self._call("Emulation.setFocusEmulationEnabled", {"enabled": True}, self._session)
        self._call("Page.navigate", {"url": url}, self._session)
        deadline = time.monotonic() + self._timeout_s
        while not self.evaluate("typeof bench === 'object' && bench.ready()"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no frame of the game within {self._timeout_s} s")
        return self._session

    def _call(self, method: str, params: Mapping[str, Any], session: str = "") -> dict[str, Any]:
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self._timeout_s
        while True:
            answer = json.loads(self._read_message(deadline, method))
            if answer.get("id") == self._next_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _read_message(self, deadline: float, method: str) -> bytes:
        while b"\0" not in self._unread:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._from_browser], [], [], left_s)[0]:
                raise TimeoutError(f"{method}: Chromium gave no answer in {self._timeout_s} s")
            chunk = os.read(self._from_browser, 1 << 20)
            if not chunk:
                raise RuntimeError(f"{method}: Chromium has ended")
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        return message


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves the page, the SWF and the Flash player; nothing else."""

    def __init__(self, *args: Any, files: Mapping[str, Path], ruffle_dir: Path) -> None:
        self._files = files
        self._ruffle_dir = ruffle_dir
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self._files.get(self.path.partition("?")[0])
        if path is None and self.path.startswith("/ruffle/"):
            path = self._ruffle_dir / Path(self.path).name
        if path is None or not path.is_file():
            self.send_error(404)
            return
        kinds = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kinds.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing: the tests' output stays readable."""
