"""Chromium without an address bar, driven through a pipe of its DevTools protocol (CDP).

No debugging port is opened: the pipe's two ends belong to this process and the browser's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from raygym.errors import RaygymError
from raygym.runtimes.processes import Process, find_program, spawn

logger = logging.getLogger(__name__)

PROGRAM_VARIABLE = "RAYGYM_CHROMIUM"
SANDBOX_VARIABLE = "RAYGYM_CHROMIUM_SANDBOX"
"""``off`` starts Chromium without its own sandbox, where something else is one: a container
without capabilities. For root it is always off."""
_MESSAGE_MAX_BYTES = 64 << 20
_SINGLETON_SOCKET = "org.chromium.Chromium.123456/SingletonSocket"
_UNIX_SOCKET_MAX_BYTES = 107

_FLAGS = (
    # Without a session bus it complains in dozens of lines; what is fatal is still said.
    "--log-level=3",
    # No window decorations, questions or first-run pages.
    "--kiosk",
    "--no-first-run",
    "--no-default-browser-check",
    "--noerrdialogs",
    "--hide-crash-restore-bubble",
    "--disable-infobars",
    "--test-type",
    "--password-store=basic",
    "--force-device-scale-factor=1",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    # No network but loopback.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--no-pings",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-features=Translate,MediaRouter,OptimizationHints,DialMediaRouteProvider,"
    # Processes that one still page has no use for.
    "AudioServiceOutOfProcess,SpareRendererForSitePerProcess,PreloadTopChromeWebUI",
    "--enable-features=NetworkServiceInProcess2",
    "--in-process-gpu",
    # The screen is the only one who looks: nothing may be slowed down as unseen.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-hang-monitor",
    # Canvas without a GPU costs a sixth of a software GL.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


@dataclass(frozen=True)
class BrowserLoss:
    """How a browser was lost."""

    reason: Literal["browser_crashed", "browser_hung"]
    """As the reward channel names it."""
    detail: str
    """What was seen."""


class BrowserError(RaygymError):
    """The browser is gone, gave no answer in time, or refused a command."""


class Browser:
    """One Chromium that fills one screen with one page.

    Owns the process group and a profile folder, which is removed when it closes. Belongs to
    the event loop that started it.

    Args:
        directory: Where the profile folder is made; private to the Remote.
        environment: Variables that let it onto its X screen (``DISPLAY``, ``XAUTHORITY``).
        size_px: Width and height of the screen.
        on_message: Gets each text that the page sends through ``window.raygymReport``.
        flags: Further ones of Chromium's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str],
        size_px: tuple[int, int],
        on_message: Callable[[str], None],
        flags: Sequence[str] = (),
    ) -> None:
        self._more_flags = tuple(flags)
        self._parent = directory
        self._environment = environment
        self._size_px = size_px
        self._on_message = on_message
        self._origin = ""
        self._profile: Path | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._target_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._document: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first_message: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session_id: str | None = None
        self._lost: asyncio.Future[BrowserLoss] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """Process id, and id of the process group; None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def loss(self) -> BrowserLoss | None:
        """How it was lost, or None while all is well."""
        return self._lost.result() if self._lost.done() else None

    async def wait_lost(self) -> BrowserLoss:
        """Waits until the browser ends, its page crashes or ``give_up`` is called."""
        return await asyncio.shield(self._lost)

    def give_up(self, loss: BrowserLoss) -> None:
        """Counts the browser as lost: every outstanding and later call fails at once."""
        if self._lost.done():
            return
        self._lost.set_result(loss)
        waiting: list[asyncio.Future[Any]] = [
            *self._answers.values(),
            self._target_id,
            self._document,
            self._first_message,
        ]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(BrowserError(f"{loss.reason}: {loss.detail}"))
                answer.exception()  # whoever waits sees it; nobody has to

    async def start(self, url: str, *, timeout_s: float = 45.0) -> None:
        """Starts Chromium on a page; returns once the page has sent a first message.

        Raises:
            BrowserError: It ended or did not answer in time.
            MissingDependency: Chromium is absent.
        """
        program = find_program(os.environ.get(PROGRAM_VARIABLE, "chromium"), package="chromium")
        self._origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._profile = _make_profile(self._parent)
        to_browser, from_browser = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        try:
            self._process = spawn(
                [program, *self._flags(), f"--app={url}"],
                environment=self._variables(),
                fds={3: to_browser[0], 4: from_browser[1]},
            )
        except BaseException:
            os.close(to_browser[1])
            os.close(from_browser[0])
            raise
        finally:
            os.close(to_browser[0])
            os.close(from_browser[1])
        await self._connect(to_browser[1], from_browser[0])
        try:
            async with asyncio.timeout(timeout_s):
                await self._attach(timeout_s=timeout_s)
        except TimeoutError as error:
            raise BrowserError(
                f"Chromium (pid {self.pid}) showed no page within {timeout_s:g} s"
            ) from error

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """Sends one CDP command to the page, or to the browser before there is one.

        Raises:
            BrowserError: No answer within ``timeout_s``, or one that says no.
        """
        if (loss := self.loss) is not None:
            raise BrowserError(f"{method}: {loss.reason}: {loss.detail}")
        if self._writer is None:
            raise BrowserError(f"{method}: the browser was not started")
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params or {}}
        if self._session_id is not None:
            message["sessionId"] = self._session_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[message["id"]] = answer
        self._writer.write(json.dumps(message).encode() + b"\0")
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise BrowserError(f"{method}: no answer within {timeout_s:g} s") from error
        finally:
            del self._answers[message["id"]]

    async def evaluate(self, expression: str, *, timeout_s: float = 10.0) -> Any:
        """Returns the value, or what the promise resolves to, of a JavaScript expression.

        Raises:
            BrowserError: It threw, or gave no value in time.
        """
        said = await self.call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True},
            timeout_s=timeout_s,
        )
        if "exceptionDetails" in said:
            details = said["exceptionDetails"]
            what = details.get("exception", {}).get("description") or details.get("text")
            raise BrowserError(f"the page threw on {expression[:80]!r}: {what}")
        return said["result"].get("value")

    async def close(self) -> None:
        """Ends the browser and removes its profile. May be called twice."""
        is_lost = self._lost.done()
        self.give_up(BrowserLoss("browser_crashed", "it was closed"))
        if self._process is not None:
            await (self._process.kill() if is_lost else self._process.end(patience_s=1.0))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._writer is not None:
            self._writer.close()
        if self._profile is not None:
            await asyncio.to_thread(shutil.rmtree, self._profile, ignore_errors=True)

    def _flags(self) -> list[str]:
        width_px, height_px = self._size_px
        # One pixel more than the screen: of the size itself, Chromium leaves a black edge.
        size = f"--window-size={width_px + 1},{height_px + 1}"
        has_none = os.geteuid() == 0 or os.environ.get(SANDBOX_VARIABLE) == "off"
        sandbox = ["--no-sandbox"] if has_none else []
        where = f"--user-data-dir={self._profile}"
        return [*_FLAGS, *self._more_flags, *sandbox, size, "--window-position=0,0", where]

    def _variables(self) -> dict[str, str]:
        keep = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "TZ") if k in os.environ}
        home = str(self._profile)
        homes = ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
        return {**keep, **dict.fromkeys(homes, home), **self._environment}

    async def _connect(self, write_fd: int, read_fd: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_MESSAGE_MAX_BYTES)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write_fd, "wb", 0)
        )
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._reading = asyncio.create_task(self._read(reader))

    async def _attach(self, *, timeout_s: float) -> None:
        # Of a busy machine the first answer takes nearly all of the time that a start has.
        call = functools.partial(self.call, timeout_s=timeout_s)
        await call("Target.setDiscoverTargets", {"discover": True})
        target_id = await asyncio.shield(self._target_id)
        said = await call("Target.attachToTarget", {"targetId": target_id, "flatten": True})
        self._session_id = str(said["sessionId"])
        await call("Runtime.enable")
        # A binding added before the page's own document is there does not reach it.
        await asyncio.shield(self._document)
        await call("Runtime.addBinding", {"name": "raygymReport"})
        await call("Inspector.enable")
        await call("Emulation.setFocusEmulationEnabled", {"enabled": True})
        await asyncio.shield(self._first_message)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        detail = "its pipe closed"
        try:
            while True:
                message = (await reader.readuntil(b"\0"))[:-1]
                self._receive(json.loads(message))
        except asyncio.IncompleteReadError:
            pass
        except (asyncio.LimitOverrunError, ValueError, KeyError, TypeError) as error:
            detail = f"it sent what makes no sense: {error!r}"
        process = self._process
        if process is not None and not self._lost.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    detail += f", exit code {await process.wait()}"
        self.give_up(BrowserLoss("browser_crashed", f"Chromium (pid {self.pid}): {detail}"))

    def _receive(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.get(message["id"])
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(BrowserError(f"Chromium refused: {message['error']}"))
            else:
                answer.set_result(message["result"])
            return
        method, params = message["method"], message["params"]
        if method == "Runtime.bindingCalled":
            if not self._first_message.done():
                self._first_message.set_result(None)
            self._on_message(params["payload"])
        elif method == "Runtime.executionContextCreated":
            if params["context"]["origin"] == self._origin and not self._document.done():
                self._document.set_result(None)
        elif method == "Target.targetCreated" and params["targetInfo"]["type"] == "page":
            if not self._target_id.done():
                self._target_id.set_result(params["targetInfo"]["targetId"])
        elif method in ("Inspector.targetCrashed", "Target.targetCrashed"):
            self.give_up(BrowserLoss("browser_crashed", "the page's process crashed"))
        elif method == "Target.detachedFromTarget":
            self.give_up(BrowserLoss("browser_crashed", "the page was closed"))


def _make_profile(parent: Path) -> Path:
    """Makes an empty folder whose path leaves room for Chromium's own socket."""
    for place in (parent, None):
        profile = Path(tempfile.mkdtemp(prefix="b", dir=place))
        if len(os.fsencode(profile / _SINGLETON_SOCKET)) <= _UNIX_SOCKET_MAX_BYTES:
            return profile
        profile.rmdir()
    return Path(tempfile.mkdtemp(prefix="raygym-b", dir="/tmp"))
