from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused, RemoteProtocolError
from raygym.wall.rfb_gate import PageGate, ScreenGreeter
from raygym.wire.rfb_client import RfbClient
from raygym.wire.rfb_events import Connected, ScreenUpdated
from raygym.wire.rfb_server import KeyEvent, PointerEvent, RfbServer

HELLO = b"RFB 003.008\n" + bytes([1]) + bytes([1])
FORMAT = struct.pack(">B3x16s", 0, b"f" * 16)
ENCODINGS = struct.pack(">BxH2i", 2, 2, 0, -239)
REQUEST = struct.pack(">BBHHHH", 3, 1, 0, 0, 64, 48)
CONTINUOUS = struct.pack(">BBHHHH", 150, 1, 0, 0, 64, 48)
FENCE = struct.pack(">B3xIB3s", 248, 1, 3, b"abc")
KEY = struct.pack(">BBxxI", 4, 1, 0x61)
POINTER = struct.pack(">BBHH", 5, 1, 10, 20)
CUT = struct.pack(">B3xI5s", 6, 5, b"hello")
EXTENDED_CUT = struct.pack(">B3xi4s", 6, -4, b"abcd")
QEMU_KEY = struct.pack(">BBHII", 255, 0, 1, 0x61, 30)
XVP = struct.pack(">BxBB", 250, 1, 2)
RESIZE = struct.pack(">BxHHBx16s", 251, 800, 600, 1, b"s" * 16)

LOOKING = [FORMAT, ENCODINGS, REQUEST, CONTINUOUS, FENCE]
INPUT = [KEY, POINTER, CUT, EXTENDED_CUT, QEMU_KEY]
NEVER = [XVP, RESIZE]
GREETING = b"greeting"


def gate(*, may_drive: bool) -> PageGate:
    made = PageGate(GREETING, may_drive=may_drive)
    made.receive_data(HELLO)
    made.take_for_page()
    return made


def test_a_page_is_asked_for_no_password_and_told_of_the_screen():
    made = PageGate(GREETING, may_drive=False)
    made.receive_data(HELLO[:12])
    assert not made.has_greeted
    made.receive_data(HELLO[12:])

    assert made.has_greeted
    assert made.take_for_page() == b"RFB 003.008\n\x01\x01" + bytes(4) + GREETING
    assert made.take_for_page() == b""


def test_a_page_that_looks_says_nothing_but_what_looking_takes():
    made = gate(may_drive=False)
    for message in [*INPUT, *LOOKING, *NEVER, *INPUT]:
        made.receive_data(message)

    assert made.take_for_screen() == b"".join(LOOKING)
    assert not made.has_input


def test_a_page_that_drives_may_press_and_click_but_not_resize_or_reboot():
    made = gate(may_drive=True)
    for message in [*LOOKING, *INPUT, *NEVER]:
        made.receive_data(message)

    assert made.take_for_screen() == b"".join([*LOOKING, *INPUT])
    assert made.has_input


@given(
    st.lists(st.sampled_from([*LOOKING, *INPUT, *NEVER]), max_size=12),
    st.integers(1, 9),
    st.booleans(),
)
def test_messages_cut_anywhere_pass_the_same(messages, piece, may_drive):
    data = b"".join(messages)
    made = gate(may_drive=may_drive)
    for start in range(0, len(data), piece):
        made.receive_data(data[start : start + piece])
    allowed = [*LOOKING, *INPUT] if may_drive else LOOKING

    assert made.take_for_screen() == b"".join(one for one in messages if one in allowed)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"RFB 003.003\n", "3.8"),
        (HELLO[:12] + b"\x02", "security"),
        (HELLO + b"\x07", "message 7"),
        (HELLO + b"\xff\x01", "QEMU message 1"),
        (HELLO + struct.pack(">B3xI", 6, 1 << 30), "at most"),
    ],
    ids=["old", "other security", "unknown message", "unknown QEMU message", "endless text"],
)
def test_a_page_that_breaks_the_protocol_is_thrown_out(said, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        PageGate(GREETING, may_drive=True).receive_data(said)


def greeted(server: RfbServer, password: str | None) -> ScreenGreeter:
    greeter = ScreenGreeter(password)
    while greeter.greeting is None:
        answer = greeter.receive_data(server.data_to_send())
        server.receive_data(answer)
    return greeter


def test_the_wall_gives_the_password_and_the_page_sees_the_screen_without_it():
    server = RfbServer(width=64, height=48, name="catch", password="secret")
    made = PageGate(greeted(server, "secret").greeting, may_drive=True)
    page = RfbClient(password=None, options=VncOptions(encoding="raw"))
    events, heard = [], []
    for _ in range(6):
        events += page.receive_data(made.take_for_page())
        made.receive_data(page.data_to_send())
        heard += server.receive_data(made.take_for_screen())
    server.send_frame(np.full((48, 64, 3), 7, np.uint8))
    events += page.receive_data(server.data_to_send())
    page.key_event(0x61, True)
    page.pointer_event(3, 4, 1)
    made.receive_data(page.data_to_send())
    heard += server.receive_data(made.take_for_screen())

    assert Connected(64, 48, "catch") in events
    assert any(isinstance(event, ScreenUpdated) for event in events)
    assert (page.framebuffer[:, :, :3] == 7).all()
    assert [e for e in heard if isinstance(e, KeyEvent | PointerEvent)] == [
        KeyEvent(0x61, True),
        PointerEvent(3, 4, 1),
    ]


def test_a_screen_that_refuses_the_password_says_so():
    server = RfbServer(width=64, height=48, name="catch", password="secret")
    greeter = ScreenGreeter("wrong")

    def exchange() -> None:
        while True:
            answer = greeter.receive_data(server.data_to_send())
            with contextlib.suppress(HandshakeRefused):
                server.receive_data(answer)

    with pytest.raises(HandshakeRefused, match="wrong password"):
        exchange()
