"""What a remote must do so that OpenAI Universe's client works with it, line by line.

Each test is one line of that checklist, against a live remote and clients written as
Universe's own code behaves, not with our own client of the reward channel.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from raygym.config import VncOptions
from raygym.core import UInt8Array
from raygym.runtimes.catch import ENV_ID, TIMING_STRIP_PX
from raygym.runtimes.in_process import InProcessHost
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire import timing, vnc_auth
from raygym.wire.rfb_client import RfbClient
from raygym.wire.rfb_server import KeyEvent
from tests.support.hosted import ONE, PASSWORD, Hosted, ScriptedTask
from tests.support.loop_thread import LoopThread
from tests.support.universe_client import UniverseClient

HEALTH_CHECK = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:10003\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
    b"authorization: Basic b3BlbmFpOg==\r\nopenai-observer: true\r\n\r\n"
)
SHIFTS_0_8_16 = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """The directory of a live remote that plays catch."""
    with tempfile.TemporaryDirectory(prefix="rg-") as path:
        host = InProcessHost()
        host.start("catch", Path(path), PASSWORD)
        yield Path(path)
        host.stop()


@pytest.fixture
def client(directory: Path) -> Iterator[UniverseClient]:
    with UniverseClient(directory / "rewarder.sock", PASSWORD) as it:
        yield it


def raw(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(path))
    return sock


def receive(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = sock.recv(count - len(data))
        assert part, f"the remote closed the connection after {bytes(data)!r}"
        data += part
    return bytes(data)


def is_well(directory: Path) -> bool:
    with UniverseClient(directory / "rewarder.sock", PASSWORD, observer=True) as it:
        it.send("v0.control.ping")
        it.until("v0.reply.control.ping")
    return True


def test_101_comes_first_then_the_password_is_checked(directory):
    with raw(directory / "rewarder.sock") as sock:
        sock.sendall(HEALTH_CHECK)  # with Universe's password, which is not ours
        answer = bytearray()
        while part := sock.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 101 ")
    _, _, frames = bytes(answer).partition(b"\r\n\r\n")
    assert b"v0.connection.close" in frames
    assert b"v0.env.describe" not in frames
    assert b"openai" not in frames
    assert frames.rpartition(b"\x88")[2][1:3] == struct.pack(">H", 1000)


@pytest.mark.parametrize(
    ("credentials", "is_let_in"),
    [(f"{PASSWORD}:", True), (f":{PASSWORD}", False), ("openai:", False), (PASSWORD, False)],
)
def test_the_user_name_of_basic_authorization_is_the_password(directory, credentials, is_let_in):
    token = base64.b64encode(credentials.encode())
    with raw(directory / "rewarder.sock") as sock:
        sock.sendall(HEALTH_CHECK.replace(b"b3BlbmFpOg==", token))
        answer = bytearray()
        while b"v0." not in answer or answer.endswith(b"v0."):
            answer += receive(sock, 1)
        answer += receive(sock, 8)
    assert (b"v0.env.d" in answer) == is_let_in


def test_the_state_is_described_at_open_with_its_frame_rate(client):
    described = client.next()
    assert described["method"] == "v0.env.describe"
    assert described["body"].keys() == {"env_id", "env_state", "fps"}
    assert isinstance(described["body"]["fps"], float)


def test_whole_message_ids_are_echoed_unchanged(client):
    # Ten pings one after the other, then a reset: Universe's calibration.
    for number in range(10):
        assert client.send("v0.control.ping") == number
        parent = client.until("v0.reply.control.ping")["headers"]["parent_message_id"]
        assert parent == number
        assert type(parent) is int
    assert client.ask_reset(ENV_ID) == 10
    assert client.until("v0.reply.env.reset")["headers"]["parent_message_id"] == 10
    assert client.send("v0.env.reset", {"env_id": "gtav.Speed-v0"}) == 11
    assert client.until("v0.reply.error")["headers"]["parent_message_id"] == 11


def test_every_message_says_when_it_was_sent(client):
    began_s = time.time()
    client.send("v0.control.ping")
    client.reset(ENV_ID)
    client.until("v0.env.reward", done=True)
    client.until_running()
    stamps = [message["headers"]["sent_at"] for message in client.seen]
    assert stamps == sorted(stamps)
    assert began_s - 1 < stamps[0] <= stamps[-1] <= time.time()
    seen = {message["method"] for message in client.seen}
    assert {"v0.env.reward", "v0.reply.control.ping", "v0.reply.env.reset"} < seen


def test_episode_ids_are_strings_of_whole_numbers_and_those_left_are_bumped_past(client):
    # That they are such strings is checked with each message that the client reads.
    before = int(client.next()["headers"]["episode_id"])
    assert int(client.reset(ENV_ID)) > before
    past = before + 1000
    client.send("v0.env.reset", {"env_id": ENV_ID, "seed": None, "fps": 50}, episode_id=str(past))
    assert client.until("v0.reply.env.reset")["headers"]["episode_id"] == str(past + 1)
    assert int(client.reset(ENV_ID)) == past + 2


def test_done_comes_before_the_next_episode_is_described(client):
    episode = int(client.reset(ENV_ID))
    del client.seen[:]
    for number in (episode, episode + 1):
        client.until("v0.env.describe", env_state="running")
        story = [m for m in client.seen if m["body"].get("done") is not False]
        told = [(m["method"], m["headers"]["episode_id"]) for m in story]
        assert told == [
            ("v0.env.reward", str(number)),
            ("v0.env.describe", str(number + 1)),
            ("v0.env.describe", str(number + 1)),
        ]
        assert [m["body"].get("env_state") for m in story] == [None, "resetting", "running"]
        del client.seen[:]


def test_running_is_described_before_the_reset_is_answered(client):
    episode = client.reset(ENV_ID)
    resetting, running, reply = client.seen[-3:]
    assert [resetting["body"]["env_state"], running["body"]["env_state"]] == [
        "resetting",
        "running",
    ]
    assert reply["body"] == {}
    assert isinstance(reply["headers"]["parent_runtime"], float)
    assert {m["headers"]["episode_id"] for m in (resetting, running, reply)} == {episode}


def test_info_is_always_an_object(client):
    client.reset(ENV_ID)
    client.until("v0.env.reward", done=True)
    infos = [m["body"]["info"] for m in client.seen if m["method"] == "v0.env.reward"]
    assert len(infos) > 1
    assert all(type(info) is dict for info in infos)


def test_bare_connects_and_half_handshakes_are_survived_in_silence(directory, caplog):
    caplog.set_level(logging.INFO)
    for name in ("rewarder.sock", "vnc.sock"):
        for _ in range(10):
            raw(directory / name).close()
    with raw(directory / "rewarder.sock") as sock:
        sock.sendall(HEALTH_CHECK)
        assert len(sock.recv(1)) == 1
    with raw(directory / "rewarder.sock") as sock:
        sock.sendall(HEALTH_CHECK[:50])
    with raw(directory / "vnc.sock") as sock:
        assert sock.recv(1) == b"R"
    with raw(directory / "vnc.sock") as sock:
        sock.sendall(b"RFB 003.008\n\x02")
    assert is_well(directory)
    assert [record.getMessage() for record in caplog.records] == []


def test_one_client_is_active_from_its_first_message_beside_any_number_of_observers(directory):
    with contextlib.ExitStack() as stack:

        def join(**kind: bool) -> UniverseClient:
            path = directory / "rewarder.sock"
            return stack.enter_context(UniverseClient(path, PASSWORD, **kind))

        silent, active = join(), join()
        watching = [join(observer=True) for _ in range(3)]
        episode = active.reset(ENV_ID)  # who came first has said nothing, so it holds no place
        for observer in watching:
            while observer.until("v0.env.describe")["headers"]["episode_id"] != episode:
                pass
            observer.ask_reset(ENV_ID)
            refused = observer.until("v0.reply.error")
            assert refused["body"]["message"] == "observers cannot reset"
        silent.send("v0.control.ping")
        farewell = silent.until("v0.connection.close")
        assert "already has an active client. (HINT:" in farewell["body"]["message"]
        with pytest.raises(ConnectionClosed):
            silent.next()
        active.send("v0.control.ping")
        active.until("v0.reply.control.ping")


class GoDriver:
    """Universe's VNC client, byte by byte; it understands raw rectangles only."""

    def __init__(self, path: Path, version: bytes) -> None:
        self.sock = raw(path)
        assert receive(self.sock, 12) == b"RFB 003.008\n"
        self.sock.sendall(version)
        self._authenticate(is_3_8=version == b"RFB 003.008\n")
        self.sock.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", receive(self.sock, 4))
        (name_bytes,) = struct.unpack(">I", receive(self.sock, 20)[16:])
        receive(self.sock, name_bytes)
        self._pixels = np.zeros((self.height, self.width, 3), np.uint8)
        self.changed_px = 0

    def _authenticate(self, *, is_3_8: bool) -> None:
        if is_3_8:
            assert receive(self.sock, 2) == b"\x01\x02"
            self.sock.sendall(b"\x02")
        else:
            assert receive(self.sock, 4) == struct.pack(">I", 2)
        self.sock.sendall(vnc_auth.response(receive(self.sock, 16), PASSWORD))
        assert receive(self.sock, 4) == bytes(4)

    def first_picture(self, encodings: list[int]) -> UInt8Array:
        """Asks for changes, as the original does from the start; returns uint8[H, W, 3]."""
        self.sock.sendall(b"\x00\x00\x00\x00" + SHIFTS_0_8_16)
        head = struct.pack(">BxH", 2, len(encodings))
        self.sock.sendall(head + struct.pack(f">{len(encodings)}i", *encodings))
        pixels = self.picture()
        assert self.changed_px == self.width * self.height
        return pixels

    def key(self, keysym: int) -> None:
        """Presses and releases a key."""
        for is_down in (True, False):
            self.sock.sendall(struct.pack(">BBxxI", 4, is_down, keysym))

    def picture(self) -> UInt8Array:
        """Asks for changes and waits for them; returns all of the screen, uint8[H, W, 3]."""
        self.sock.sendall(struct.pack(">BBHHHH", 3, 1, 0, 0, self.width, self.height))
        (rectangles,) = struct.unpack(">xxH", receive(self.sock, 4))
        self.changed_px = 0
        for _ in range(rectangles):
            x, y, width, height, encoding = struct.unpack(">HHHHi", receive(self.sock, 12))
            assert encoding == 0
            data = np.frombuffer(receive(self.sock, width * height * 4), np.uint8)
            self._pixels[y : y + height, x : x + width] = data.reshape(height, width, 4)[..., :3]
            self.changed_px += width * height
        return self._pixels

    def close(self) -> None:
        self.sock.close()


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.008\n"])
def test_rfb_3_3_and_3_8_with_vncauth_show_the_whole_screen_at_the_first_request_for_changes(
    directory, client, version
):
    client.reset(ENV_ID)
    with contextlib.closing(GoDriver(directory / "vnc.sock", version)) as driver:
        pixels = driver.first_picture([0])
    assert pixels.shape == (96, 384, 3)
    assert timing.read(pixels, *TIMING_STRIP_PX) is not None
    assert pixels[78:84, :84].any()  # the paddle


def test_shifts_of_0_8_and_16_give_red_green_and_blue(tmp_path):
    # Catch is grey, so this is a screen of the test's own.
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0] = 10, 20, 30
    loop = LoopThread()
    screen = PaintedScreen(tmp_path, width_px=2, height_px=2, password=PASSWORD)
    screen.paint(colours)
    loop.run(screen.start())
    driver = GoDriver(tmp_path / "vnc.sock", b"RFB 003.008\n")
    try:
        assert driver.first_picture([0])[0, 0].tolist() == [10, 20, 30]
    finally:
        driver.close()
        loop.run(screen.close())
        loop.close()


@pytest.mark.parametrize("encoding", ["tight", "zrle", "raw"])
def test_tight_zrle_and_raw_show_the_game(directory, client, encoding):
    client.reset(ENV_ID)
    options = VncOptions(encoding=encoding, fine_quality_level=50, subsample_level=2)
    rfb = RfbClient(password=PASSWORD, options=options)
    deadline_s = time.monotonic() + 5
    with raw(directory / "vnc.sock") as sock:
        marks = set()
        while len(marks) < 3:
            assert time.monotonic() < deadline_s
            sock.sendall(rfb.data_to_send())
            rfb.receive_data(sock.recv(1 << 16))
            if rfb.has_picture:
                mark = timing.read(rfb.framebuffer[..., :3], *TIMING_STRIP_PX)
                marks |= {mark.painted_at_ms} if mark is not None else set()


def test_the_probe_time_is_not_zero_at_the_start(directory, client):
    client.reset(ENV_ID)
    with contextlib.closing(GoDriver(directory / "vnc.sock", b"RFB 003.008\n")) as driver:
        mark = timing.read(driver.first_picture([0]), *TIMING_STRIP_PX)
    assert mark is not None
    assert mark.input_count == 0
    assert mark.input_at_ms != 0
    assert 0 < timing.age_ms(time.time(), mark.input_at_ms) < 600_000


class SyncTask(ScriptedTask):
    """Steps when the key "c" goes down: first the reward, then a picture painted later."""

    def __init__(self, screen: PaintedScreen) -> None:
        super().__init__(mode="sync")
        self._screen = screen
        self._steps = 0
        screen.on_key = self._on_key

    def _on_key(self, event: KeyEvent) -> None:
        if event == KeyEvent(ord("c"), True):
            assert self.reports is not None
            self._steps += 1
            self.reports.reward(0.0, info={"step": self._steps})
            pixels = np.zeros((timing.HEIGHT_PX, timing.WIDTH_PX, 3), np.uint8)
            mark = timing.TimingMark(timing.stamp_ms(time.time()), 1, self._steps)
            timing.paint(pixels, 0, 0, mark)
            self._screen.paint(pixels)


def test_a_sync_environment_sends_exactly_one_reward_for_each_c_before_its_picture(tmp_path):
    size = {"width_px": timing.WIDTH_PX, "height_px": timing.HEIGHT_PX}
    screen = PaintedScreen(tmp_path, **size, password=PASSWORD)
    hosted = Hosted(tmp_path, SyncTask(screen), screen)
    try:
        client = hosted.join()
        client.reset(ONE)
        with contextlib.closing(GoDriver(tmp_path / "vnc.sock", b"RFB 003.008\n")) as driver:
            driver.first_picture([0])
            for step in (1, 2, 3):
                driver.key(ord("c"))
                mark = timing.read(driver.picture(), 0, 0)
                reward = client.next()
                assert (reward["method"], reward["body"]["reward"]) == ("v0.env.reward", 0.0)
                assert reward["body"]["info"] == {"step": step}
                assert mark is not None
                assert mark.input_count == step
                assert timing.age_ms(reward["headers"]["sent_at"], mark.painted_at_ms) < 1.0
        with pytest.raises(TimeoutError):
            client.next(0.05)
    finally:
        hosted.close()
