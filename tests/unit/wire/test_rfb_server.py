from __future__ import annotations

import struct

import numpy as np
import pytest

from raygym.errors import ConfigError, HandshakeRefused, RemoteProtocolError
from raygym.wire import vnc_auth
from raygym.wire.pixel_format import RGBX, PixelFormat
from raygym.wire.rfb_server import (
    ClientReady,
    KeyEvent,
    PointerEvent,
    RfbServer,
    UpdateRequested,
)

WIDTH, HEIGHT = 8, 6
CHALLENGE = bytes(range(16))
FRAME = np.arange(WIDTH * HEIGHT * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
INIT = struct.pack(">HH16sI", WIDTH, HEIGHT, RGBX.pack(), 4) + b"name"


def new_server(password: str | None = None) -> RfbServer:
    return RfbServer(
        width=WIDTH, height=HEIGHT, name="name", password=password, challenge=CHALLENGE
    )


def ready_server() -> RfbServer:
    """A server whose client is connected, wants raw pixels, and has nothing left to read."""
    server = new_server()
    server.receive_data(b"RFB 003.008\n\x01\x01")
    server.data_to_send()
    return server


def request(x=0, y=0, width=WIDTH, height=HEIGHT, *, is_incremental=True) -> bytes:
    return struct.pack(">BBHHHH", 3, is_incremental, x, y, width, height)


def raw_update(x: int, y: int, pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rgbx = np.full((height, width, 4), 255, np.uint8)
    rgbx[..., :3] = pixels
    return struct.pack(">BxHHHHHi", 0, 1, x, y, width, height, 0) + rgbx.tobytes()


def test_version_3_8_without_a_password():
    server = new_server()
    assert server.data_to_send() == b"RFB 003.008\n"
    server.receive_data(b"RFB 003.008\n")
    assert server.data_to_send() == b"\x01\x01"
    server.receive_data(b"\x01")
    assert server.data_to_send() == bytes(4)
    assert server.receive_data(b"\x00") == [ClientReady(is_shared=False)]
    assert server.data_to_send() == INIT


def test_version_3_8_with_a_password():
    server = new_server("secret12")
    server.receive_data(b"RFB 003.008\n\x02")
    assert server.data_to_send() == b"RFB 003.008\n\x01\x02" + CHALLENGE
    server.receive_data(vnc_auth.response(CHALLENGE, "secret12"))
    assert server.data_to_send() == bytes(4)
    assert server.receive_data(b"\x01") == [ClientReady(is_shared=True)]


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.005\n"])
def test_version_3_3_without_a_password(version):
    server = new_server()
    server.receive_data(version)
    assert server.data_to_send() == b"RFB 003.008\n" + struct.pack(">I", 1)
    assert server.receive_data(b"\x01") == [ClientReady(is_shared=True)]
    assert server.data_to_send() == INIT


def test_version_3_3_with_a_password():
    server = new_server("secret12")
    server.receive_data(b"RFB 003.003\n")
    assert server.data_to_send() == b"RFB 003.008\n" + struct.pack(">I", 2) + CHALLENGE
    server.receive_data(vnc_auth.response(CHALLENGE, "secret12") + b"\x01")
    assert server.data_to_send() == bytes(4) + INIT


def test_version_3_7_has_no_result_without_a_password():
    server = new_server()
    server.receive_data(b"RFB 003.007\n\x01\x01")
    assert server.data_to_send() == b"RFB 003.008\n\x01\x01" + INIT


@pytest.mark.parametrize(
    ("minor", "told"),
    [(3, b"\0\0\0\1"), (7, b"\0\0\0\1"), (8, b"\0\0\0\1\0\0\0\x0ewrong password")],
)
def test_a_wrong_password_is_refused_and_the_client_is_told(minor, told):
    server = new_server("secret12")
    server.receive_data(b"RFB 003.%03d\n" % minor + (b"\x02" if minor > 3 else b""))
    server.data_to_send()
    with pytest.raises(HandshakeRefused, match="wrong password"):
        server.receive_data(vnc_auth.response(CHALLENGE, "other"))
    assert server.data_to_send() == told
    with pytest.raises(HandshakeRefused):
        server.receive_data(b"\x01")


def test_a_security_type_that_was_not_offered_is_refused():
    server = new_server("secret12")
    with pytest.raises(HandshakeRefused, match="security type 1 was not offered"):
        server.receive_data(b"RFB 003.008\n\x01")
    assert b"not offered" in server.data_to_send()


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1", b"RFB 003.002\n", b"RFB 004.001\n"])
def test_something_else_than_rfb_is_refused(greeting):
    with pytest.raises(RemoteProtocolError, match="not with an RFB version"):
        new_server().receive_data(greeting)


def test_each_server_makes_its_own_challenge():
    challenges = set()
    for _ in range(2):
        server = RfbServer(width=1, height=1, name="", password="secret12")
        server.receive_data(b"RFB 003.008\n\x02")
        challenges.add(server.data_to_send()[-16:])
    assert len(challenges) == 2


def test_input_events_come_out_however_they_are_cut():
    data = (
        struct.pack(">BBxxI", 4, 1, 0xFF52)
        + struct.pack(">BBHH", 5, 4, 3, 2)
        + struct.pack(">BxxxI", 6, 5)
        + b"hello"
        + struct.pack(">BBxxI", 4, 0, 0xFF52)
        + request()
    )
    expected = [
        KeyEvent(0xFF52, True),
        PointerEvent(3, 2, 4),
        KeyEvent(0xFF52, False),
        UpdateRequested(True),
    ]
    assert ready_server().receive_data(data) == expected
    server = ready_server()
    assert [e for byte in data for e in server.receive_data(bytes([byte]))] == expected


def test_a_frame_is_not_sent_before_it_is_asked_for():
    server = ready_server()
    assert not server.send_frame(FRAME)
    assert server.data_to_send() == b""


def test_a_fresh_client_gets_the_whole_screen_even_if_it_asks_for_changes():
    server = ready_server()
    server.receive_data(request(is_incremental=True))
    assert server.send_frame(FRAME)
    assert server.data_to_send() == raw_update(0, 0, FRAME)


def test_only_what_changed_is_sent():
    server = ready_server()
    server.receive_data(request())
    server.send_frame(FRAME)
    server.data_to_send()
    server.receive_data(request())
    assert not server.send_frame(FRAME)
    changed = FRAME.copy()
    changed[2:4, 5:8] ^= 0xFF
    assert server.send_frame(changed)
    assert server.data_to_send() == raw_update(5, 2, changed[2:4, 5:8])


def test_one_request_gets_one_update():
    server = ready_server()
    server.receive_data(request())
    assert server.send_frame(FRAME)
    assert not server.send_frame(~FRAME)


def test_all_of_the_screen_is_sent_where_it_is_asked_for():
    server = ready_server()
    server.receive_data(request())
    server.send_frame(FRAME)
    server.data_to_send()
    server.receive_data(request(is_incremental=False) + request(is_incremental=True))
    assert server.send_frame(FRAME)
    assert server.data_to_send() == raw_update(0, 0, FRAME)


def test_a_request_for_a_part_gets_that_part_and_the_rest_stays_unsent():
    server = ready_server()
    server.receive_data(request(2, 1, 3, 2))
    assert server.send_frame(FRAME)
    assert server.data_to_send() == raw_update(2, 1, FRAME[1:3, 2:5])
    server.receive_data(request())
    assert server.send_frame(FRAME)
    assert server.data_to_send() == raw_update(0, 0, FRAME)


def test_a_request_beyond_the_screen_is_cut_to_it():
    server = ready_server()
    server.receive_data(request(6, 5, 60000, 60000))
    assert server.send_frame(FRAME)
    assert server.data_to_send() == raw_update(6, 5, FRAME[5:, 6:])
    server.receive_data(request(WIDTH, 0, 5, 5))
    assert not server.send_frame(FRAME)


def test_frames_may_be_rewritten_in_place_between_calls():
    server = ready_server()
    frame = FRAME.copy()
    server.receive_data(request())
    server.send_frame(frame)
    server.data_to_send()
    frame[0, 0] ^= 0xFF
    server.receive_data(request())
    assert server.send_frame(frame)
    assert server.data_to_send() == raw_update(0, 0, frame[:1, :1])


def test_the_clients_pixel_format_is_used():
    server = ready_server()
    rgb565 = PixelFormat(16, 16, False, True, 31, 63, 31, 11, 5, 0)
    server.receive_data(b"\x00\x00\x00\x00" + rgb565.pack() + request())
    server.send_frame(np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    assert server.data_to_send()[16:] == b"\xff\xff" * (WIDTH * HEIGHT)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x63", "message 99"),
        (struct.pack(">BxxxI", 6, 0xFFFFFFF0), "4294967280 bytes announced"),
        (b"\x00\x00\x00\x00" + bytes(16), "pixel format"),
    ],
)
def test_a_message_against_the_rules_is_refused(data, complaint):
    server = ready_server()
    with pytest.raises(RemoteProtocolError, match=complaint):
        server.receive_data(data)
    with pytest.raises(RemoteProtocolError, match=complaint):
        server.receive_data(request())


@pytest.mark.parametrize(
    "frame", [FRAME[:-1], FRAME.astype(np.float32), FRAME[..., :2], FRAME.transpose(1, 0, 2)]
)
def test_a_frame_of_another_kind_is_refused(frame):
    with pytest.raises(ValueError, match=r"expected uint8\[6, 8, 3\]"):
        ready_server().send_frame(frame)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (5121, 1), (1, 2881)])
def test_a_screen_without_or_beyond_size_is_refused(size):
    with pytest.raises(ConfigError, match="expected a screen of 1x1 to 5120x2880"):
        RfbServer(width=size[0], height=size[1], name="", password=None)
