"""An X screen that is also a VNC server: TigerVNC's Xvnc."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
from pathlib import Path

from raygym.core import Endpoint
from raygym.errors import RemoteFailedToStart
from raygym.runtimes.processes import Process, find_program, spawn
from raygym.wire.vnc_auth import obfuscate

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 15.0
_PORT_ATTEMPTS = 10
_UNIX_CONNECTED = "03"
_TCP_ESTABLISHED = "01"
_X_SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108  where every X client looks
_ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104  compared with, not bound


class XvncScreen:
    """One Xvnc with a private X cookie.

    Owns the process and its files: the password file, the cookie and the sockets.

    Args:
        directory: Private directory of the Remote; ``vnc.sock`` is made in it.
        width_px: Width of the screen.
        height_px: Height of the screen.
        password: VNC password; its first 8 bytes count.
        name: What viewers show as the desktop's name.
        host: Address to listen at over TCP; None listens at the unix socket only.
        port: TCP port; 0 takes a free one.
        is_view_only: Whether keys and pointers of its clients are ignored.
    """

    def __init__(
        self,
        directory: Path,
        *,
        width_px: int,
        height_px: int,
        password: str,
        name: str = "raygym",
        host: str | None = None,
        port: int = 0,
        is_view_only: bool = False,
    ) -> None:
        self._is_view_only = is_view_only
        self._directory = directory
        self._size_px = (width_px, height_px)
        self._password = password
        self._name = name
        self._host = host
        self._port = port
        self._process: Process | None = None
        self._display_number: int | None = None
        self._bound_port = port

    @property
    def x_environment(self) -> dict[str, str]:
        """The variables that let an X client onto this screen, once it has started."""
        return {
            "DISPLAY": f":{self._display_number}",
            "XAUTHORITY": str(self._directory / "xauthority"),
        }

    @property
    def pid(self) -> int | None:
        """Process id of Xvnc, None before it was started."""
        return None if self._process is None else self._process.pid

    async def start(self) -> Endpoint:
        """Starts Xvnc; returns where RFB is spoken once it answers.

        Raises:
            RemoteFailedToStart: Xvnc ended, or was not ready in time; its own words are in
                the log.
            MissingDependency: Xvnc is absent.
        """
        _write_private(self._directory / "vnc.passwd", obfuscate(self._password))
        _write_private(self._directory / "xauthority", _x_cookie(secrets.token_bytes(16)))
        may_retry = self._host is not None and self._port == 0
        for attempt in range(_PORT_ATTEMPTS if may_retry else 1):
            port = (self._port or _free_port(self._host or "")) if self._host is not None else -1
            if await self._try_start(port):
                self._bound_port = port
                logger.info("xvnc.started display=%s port=%d", self._display_number, port)
                if self._host is None:
                    return Endpoint(path=str(self._directory / "vnc.sock"))
                return Endpoint(host=self._host, port=port)
            logger.warning("xvnc.retry attempt=%d port=%d", attempt, port)
        raise RemoteFailedToStart(
            f"Xvnc on {self._where()} ended instead of starting; the lines above are its own. "
            + ("Choose another port, or 0 for a free one." if self._port else "")
        )

    async def wait_lost(self) -> str:
        """Waits until Xvnc ends by itself; returns what was seen."""
        if self._process is None:
            raise RuntimeError("wait_lost() before start()")
        code = await self._process.wait()
        return f"Xvnc (pid {self._process.pid}) ended with exit code {code}"

    def clients(self) -> int:
        """Returns how many VNC clients are connected, as the kernel counts them."""
        if self._process is None or not self._process.is_running:
            return 0
        if self._host is None:
            return _connected_unix(str(self._directory / "vnc.sock"))
        return _connected_tcp(self._bound_port)

    async def close(self) -> None:
        """Ends Xvnc and removes its files. May be called twice."""
        if self._process is not None:
            await self._process.end()
            self._remove_x_socket()
        for name in ("vnc.passwd", "xauthority", "vnc.sock"):
            (self._directory / name).unlink(missing_ok=True)

    def _where(self) -> str:
        if self._host is None:
            return str(self._directory / "vnc.sock")
        return f"{self._host}:{self._port or 'any port'}"

    async def _try_start(self, port: int) -> bool:
        """Starts Xvnc once; returns False if it ended instead (a port that is taken)."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._process = spawn(
                self._command(port),
                environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
                fds={3: write_end},
                # With SIGTERM it removes its own sockets before it ends.
                on_owner_death="TERM",
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                said = await _read_line(read_end)
        except TimeoutError as error:
            await self._process.kill()
            raise RemoteFailedToStart(
                f"Xvnc on {self._where()} was not ready within {_START_TIMEOUT_S:g} s; "
                "its log stands above"
            ) from error
        finally:
            os.close(read_end)
        if said:
            self._display_number = int(said)
            return True
        await self._process.end()
        return False

    def _command(self, port: int) -> list[str]:
        width_px, height_px = self._size_px
        command = [find_program("Xvnc", package="tigervnc-standalone-server"), "-displayfd", "3"]
        # Not "-nolisten local": without its abstract socket Xvnc takes the display number of
        # another server that also listens without one.
        command += ["-nolisten", "tcp", "-auth", str(self._directory / "xauthority")]
        command += ["-geometry", f"{width_px}x{height_px}", "-depth", "24", "-desktop", self._name]
        command += ["-s", "0", "-dpms", "-nocursor", "-AlwaysShared", "-FrameRate", "250"]
        command += ["-AcceptSetDesktopSize=0", "-AcceptCutText=0", "-SendCutText=0"]
        if self._is_view_only:
            command += ["-AcceptKeyEvents=0", "-AcceptPointerEvents=0"]
        command += ["-SecurityTypes", "VncAuth", "-PasswordFile"]
        command += [str(self._directory / "vnc.passwd")]
        if self._host is None:
            command += ["-rfbport", "-1", "-rfbunixpath", str(self._directory / "vnc.sock")]
            # All clients of a unix socket have one address: one wrong guesser would lock out all.
            command += ["-UseBlacklist=0"]
        else:
            command += ["-rfbport", str(port)]
            command += [] if self._host in _ANY_HOST else ["-interface", _address(self._host)]
        return command

    def _remove_x_socket(self) -> None:
        """Removes what a killed Xvnc leaves, unless another server listens there by now."""
        if self._display_number is None:
            return
        path = _X_SOCKETS / f"X{self._display_number}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _x_cookie(cookie: bytes) -> bytes:
    """Returns an Xauthority file whose entry counts for every host and display number."""
    family_wild = 0xFFFF
    fields = (b"", b"", b"MIT-MAGIC-COOKIE-1", cookie)
    packed = (struct.pack(">H", len(field)) + field for field in fields)
    return struct.pack(">H", family_wild) + b"".join(packed)


def _connected_unix(path: str) -> int:
    """Counts the accepted connections of a unix socket."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
    fields = (line.split(maxsplit=7) for line in lines if line.endswith(path))
    return sum(row[-1] == path and row[5] == _UNIX_CONNECTED for row in fields)


def _connected_tcp(port: int) -> int:
    """Counts the connections whose local end is that port."""
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            local_port = f":{port:04X}"
            count += sum(r[1].endswith(local_port) and r[3] == _TCP_ESTABLISHED for r in rows)
    return count


def _address(host: str) -> str:
    return socket.gethostbyname(host)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def _read_line(fd: int) -> str:
    """Reads from a non-blocking pipe up to a line's end; returns "" if the pipe closes first."""
    said = b""
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, readable.set)
    try:
        while b"\n" not in said:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(fd, 64)
                if not chunk:
                    return ""
                said += chunk
    finally:
        loop.remove_reader(fd)
    return said.decode().strip()
