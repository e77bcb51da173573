"""Measures the CPU time of decoding a 1024x768 screen, beside two other VNC clients.

python benchmarks/decode.py

Xvnc draws known content and its updates are recorded. Each recording is decoded from memory,
and then replayed over a loopback socket to raygym, asyncvnc2 and vncdotool, each in a process
of its own. Prints a Markdown table of milliseconds of CPU per update, medians over several runs.
"""

from __future__ import annotations

import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from raygym.config import VncOptions  # noqa: E402  the repository must be on the path first
from raygym.wire.encodings import (  # noqa: E402
    SERVER_INIT,
    Encoding,
    requested_encodings,
)
from raygym.wire.pixel_format import RGBX  # noqa: E402
from raygym.wire.rfb_client import RfbClient  # noqa: E402
from raygym.wire.rfb_server import RfbServer, UpdateRequested  # noqa: E402
from tests.support.rfb_recorder import Recorder  # noqa: E402
from tests.support.x11 import X11Canvas  # noqa: E402
from tests.support.xvnc import running_xvnc  # noqa: E402

WIDTH_PX, HEIGHT_PX = 1024, 768
PASSWORD = "bench123"
CHUNK_BYTES = 1 << 18
DECODE_RUNS = 7
REPLAY_RUNS = 3
REPLAY_TIMEOUT_S = 150
PEERS_VENV = ROOT / ".setup" / "peers-venv"
REPLAY_CLIENT = Path(__file__).with_name("replay_client.py")
REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")
HANDSHAKE = (
    b"RFB 003.008\n\x01\x01"
    + bytes(4)
    + SERVER_INIT.pack(WIDTH_PX, HEIGHT_PX, RGBX.pack(), 5)
    + b"bench"
)

Draw = Callable[[X11Canvas, int], None]


def _video_background() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT_PX, : WIDTH_PX * 2] / 61.0
    waves = np.stack([np.sin(x + y / 2), np.sin(y - x / 3), np.cos(x / 2 + y)], -1)
    noise = np.random.default_rng(0).integers(-8, 9, waves.shape)
    return (waves * 100 + 128 + noise).astype(np.uint8)


def _game_background() -> np.ndarray:
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (8, 3), np.uint8)
    y, x = np.mgrid[:HEIGHT_PX, : WIDTH_PX * 2]
    picture = np.zeros((HEIGHT_PX, WIDTH_PX * 2, 3), np.uint8)
    for _ in range(160):
        centre_y, centre_x = random.integers(0, HEIGHT_PX), random.integers(0, WIDTH_PX * 2)
        radius = random.integers(10, 70)
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        picture[inside] = colours[random.integers(0, 8)]
    return picture


def scrolling(background: np.ndarray) -> Draw:
    """Draws a whole screen that moves sideways by 8 pixels a frame."""

    def draw(canvas: X11Canvas, number: int) -> None:
        left = number * 8 % WIDTH_PX
        canvas.put(0, 0, background[:, left : left + WIDTH_PX])

    return draw


def sprites(canvas: X11Canvas, number: int) -> None:
    """Moves two sprites of 48x48 pixels and a row of 16 marks."""
    if number == 0:
        canvas.fill(0, 0, WIDTH_PX, HEIGHT_PX, (30, 30, 60))
    for top, colour in ((200, (220, 40, 40)), (500, (40, 220, 40))):
        canvas.fill(100 + (number - 1) * 6, top, 48, 48, (30, 30, 60))
        canvas.fill(100 + number * 6, top, 48, 48, colour)
        canvas.fill(116 + number * 6, top + 16, 16, 16, (250, 250, 200))
    for bit in range(16):
        shade = 255 * (number >> bit & 1)
        canvas.fill(8 + bit * 16, 8, 16, 8, (shade, shade, shade))


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    options: VncOptions
    draw: Draw
    updates: int
    target_ms: float
    """Decoding alone, as measured for a plain numpy decoder."""
    peers: tuple[str, ...]
    """Who can read the encoding."""


def cases() -> list[Case]:
    video, game = scrolling(_video_background()), scrolling(_game_background())
    raw, zrle = VncOptions(encoding="raw"), VncOptions(encoding="zrle")
    jpeg = VncOptions(fine_quality_level=50, subsample_level=1)
    lossless = VncOptions(fine_quality_level=None)
    both = ("asyncvnc2", "vncdotool")
    return [
        Case("whole screen, raw", raw, video, 12, 0.34, both),
        Case("whole screen, tight jpeg q50", jpeg, video, 20, 1.75, ()),
        Case("game, tight lossless", lossless, game, 20, 8.7, ()),
        Case("game, zrle", zrle, game, 12, 10.0, both),
        Case("small change, raw", raw, sprites, 60, 0.13, both),
        Case("small change, tight", lossless, sprites, 60, 0.36, ()),
        Case("small change, zrle", zrle, sprites, 60, 0.44, both),
    ]


def record(case: Case) -> list[bytes]:
    """Returns the bytes of each update; the first is the whole screen."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_xvnc(Path(directory), password=PASSWORD, width=WIDTH_PX, height=HEIGHT_PX) as xvnc,
        Recorder(xvnc, case.options, password=PASSWORD) as recorder,
    ):
        canvas = X11Canvas(xvnc.display)
        client = recorder.client
        client.auto_request = False
        recorder.run_until(lambda: client.is_connected)
        recorder.send(_plain_encodings(case.options))
        updates = []
        for number in range(case.updates):
            case.draw(canvas, number)
            canvas.sync()
            recorder.received.clear()
            client.request_update(is_incremental=number > 0)
            recorder.run_until(lambda number=number: recorder.updates > number)
            updates.append(bytes(recorder.received))
        canvas.close()
    return updates


def _plain_encodings(options: VncOptions) -> bytes:
    """Returns a SetEncodings without the pseudo-encodings that asyncvnc2 stumbles over."""
    numbers = [
        number
        for number in requested_encodings(options)
        if number not in (Encoding.LAST_RECT, Encoding.DESKTOP_SIZE)
    ]
    return struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers)


def decode_ms(updates: list[bytes]) -> float:
    """Returns the CPU time per update of decoding from memory, the first left out."""
    results = []
    for _ in range(DECODE_RUNS):
        client = RfbClient(password=None, options=VncOptions())
        client.receive_data(HANDSHAKE + updates[0])
        chunks = [
            update[begin : begin + CHUNK_BYTES]
            for update in updates[1:]
            for begin in range(0, len(update), CHUNK_BYTES)
        ]
        begin_s = time.process_time()
        for chunk in chunks:
            client.receive_data(chunk)
            client.data_to_send()
        results.append((time.process_time() - begin_s) * 1e3 / (len(updates) - 1))
    return statistics.median(results)


def serve(listener: socket.socket, updates: list[bytes]) -> None:
    """Answers each request of one client with the next update."""
    connection, _ = listener.accept()
    server = RfbServer(width=WIDTH_PX, height=HEIGHT_PX, name="bench", password=None)
    left = list(reversed(updates))
    with connection:
        connection.settimeout(REPLAY_TIMEOUT_S)
        connection.sendall(server.data_to_send())
        while data := connection.recv(1 << 16):
            events = server.receive_data(data)
            connection.sendall(server.data_to_send())
            for event in events:
                if isinstance(event, UpdateRequested) and left:
                    connection.sendall(left.pop())


def replay(client: str, updates: list[bytes]) -> str:
    """Returns the CPU time per update of a client in a process of its own, or why there is none.

    Raises:
        RuntimeError: raygym itself failed.
    """
    python = sys.executable if client == "raygym" else str(PEERS_VENV / "bin" / "python")
    results = []
    for _ in range(REPLAY_RUNS):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(REPLAY_TIMEOUT_S)
            thread = threading.Thread(target=serve, args=(listener, updates), daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            done = subprocess.run(
                [python, str(REPLAY_CLIENT), client, str(port), str(len(updates))],
                capture_output=True,
                text=True,
                timeout=REPLAY_TIMEOUT_S,
                check=False,
            )
            thread.join(5)
        if done.returncode or not done.stdout.strip():
            reason = (done.stderr.strip() or "no output").splitlines()[-1]
            if client == "raygym":
                raise RuntimeError(f"raygym failed: {done.stderr[-500:]}")
            return f"fails: {reason[-60:]}"
        results.append(json.loads(done.stdout)["cpu_ms"])
    return f"{statistics.median(results):.2f}"


def set_up_peers() -> bool:
    """Makes the peers' virtual environment once; False where that is not possible."""
    marker = PEERS_VENV / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return True
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(PEERS_VENV)],
        [str(PEERS_VENV / "bin" / "pip"), "install", "-q", "-r", str(REQUIREMENTS)],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            print(f"The other clients could not be installed: {done.stderr[-300:]}\n")
            return False
    marker.write_text(wanted, encoding="utf-8")
    return True


def main() -> None:
    """Prints the table."""
    has_peers = set_up_peers()
    print("Milliseconds of CPU per update of a 1024x768 screen, medians.\n")
    print("| content, encoding | KB/update | decode | target | raygym | asyncvnc2 | vncdotool |")
    print("|---|---|---|---|---|---|---|")
    for case in cases():
        updates = record(case)
        kilobytes = sum(map(len, updates[1:])) / (len(updates) - 1) / 1e3
        cells = [f"{kilobytes:.1f}", f"**{decode_ms(updates):.2f}**", f"{case.target_ms:.2f}"]
        cells.append(replay("raygym", updates))
        for peer in ("asyncvnc2", "vncdotool"):
            if not has_peers:
                cells.append("not installed")
            elif peer in case.peers:
                cells.append(replay(peer, updates))
            else:
                cells.append("cannot read it")
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    print(
        "\n`decode` is the decoder alone, fed from memory; the last three columns include reading "
        "a loopback socket."
    )


if __name__ == "__main__":
    main()
