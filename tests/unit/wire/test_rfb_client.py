from __future__ import annotations

import struct

import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused, LocalProtocolError, RemoteProtocolError
from raygym.wire import vnc_auth
from raygym.wire.encodings import Encoding, requested_encodings
from raygym.wire.pixel_format import RGBX
from raygym.wire.rfb_client import (
    Bell,
    Connected,
    DesktopResized,
    RfbClient,
    ScreenUpdated,
)
from tests.support.rfb import (
    GREETING,
    connected_client,
    handshake,
    raw_rectangle,
    rectangle,
    server_init,
    update,
)

CHALLENGE = bytes(range(16))
SCREEN = np.arange(20 * 10 * 4, dtype=np.uint8).reshape(10, 20, 4)
WHOLE = update(raw_rectangle(0, 0, SCREEN))


def new_client(password: str | None = None, **arguments) -> RfbClient:
    return RfbClient(password=password, options=VncOptions(), **arguments)


def request(width: int, height: int, *, is_incremental: bool) -> bytes:
    return struct.pack(">BBHHHH", 3, is_incremental, 0, 0, width, height)


def refusal(reason: bytes) -> bytes:
    return struct.pack(">I", len(reason)) + reason


def opening(options: VncOptions) -> bytes:
    numbers = requested_encodings(options)
    return (
        b"\x00\x00\x00\x00"
        + RGBX.pack()
        + struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers)
    )


def test_version_3_8_without_a_password():
    client = new_client()
    assert client.data_to_send() == b""
    assert client.receive_data(GREETING) == []
    assert client.data_to_send() == GREETING
    client.receive_data(b"\x02\x10\x01")
    assert client.data_to_send() == b"\x01"
    client.receive_data(bytes(4))
    assert client.data_to_send() == b"\x01"
    assert client.receive_data(server_init(20, 10, "bücher".encode())) == [
        Connected(20, 10, "bücher")
    ]
    assert client.data_to_send() == opening(VncOptions()) + request(20, 10, is_incremental=False)
    assert (client.width, client.height, client.name) == (20, 10, "bücher")
    assert client.is_connected
    assert not client.has_picture


def test_version_3_8_with_a_password():
    client = new_client("secret12")
    client.receive_data(GREETING + b"\x02\x01\x02")
    assert client.data_to_send() == GREETING + b"\x02"
    client.receive_data(CHALLENGE)
    assert client.data_to_send() == vnc_auth.response(CHALLENGE, "secret12")
    client.receive_data(bytes(4) + server_init(20, 10))
    assert client.is_connected


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.005\n", b"RFB 003.007\n"])
def test_older_servers_are_spoken_to_in_version_3_3(version):
    client = new_client()
    client.receive_data(version)
    assert client.data_to_send() == b"RFB 003.003\n"
    client.receive_data(struct.pack(">I", 1))
    assert client.data_to_send() == b"\x01"
    assert client.receive_data(server_init(20, 10)) == [Connected(20, 10, "test")]


def test_version_3_3_with_a_password():
    client = new_client("secret12")
    client.receive_data(b"RFB 003.003\n" + struct.pack(">I", 2) + CHALLENGE)
    assert client.data_to_send() == b"RFB 003.003\n" + vnc_auth.response(CHALLENGE, "secret12")
    client.receive_data(bytes(4) + server_init(20, 10))
    assert client.is_connected


@pytest.mark.parametrize("version", [b"RFB 003.889\n", b"RFB 004.001\n", b"RFB 005.000\n"])
def test_newer_servers_are_spoken_to_in_version_3_8(version):
    client = new_client()
    client.receive_data(version)
    assert client.data_to_send() == GREETING


def test_a_client_that_would_be_alone_says_so():
    client = new_client(is_shared=False)
    client.receive_data(GREETING + b"\x01\x01" + bytes(4))
    assert client.data_to_send() == GREETING + b"\x01\x00"


def test_a_password_is_used_where_the_server_leaves_the_choice():
    client = new_client("secret12")
    client.receive_data(GREETING + b"\x02\x01\x02")
    assert client.data_to_send()[-1:] == b"\x02"


def test_a_password_is_left_out_where_the_server_asks_for_none():
    client = new_client("secret12")
    client.receive_data(GREETING + b"\x01\x01")
    assert client.data_to_send()[-1:] == b"\x01"


@pytest.mark.parametrize(
    ("password", "data", "complaint"),
    [
        (None, b"\x01\x02", "asks for a password and none was given"),
        ("secret12", b"\x02\x13\x05", r"19 \(VeNCrypt\), 5 \(RA2\).*speaks 1 \(None\) and 2"),
        ("secret12", b"\x00" + refusal(b"too many clients"), "says 'too many clients'"),
        ("secret12", b"\x00" + b"\xff" * 4, "too many to read"),
        (
            "secret12",
            b"\x01\x02" + CHALLENGE + b"\x00\x00\x00\x01" + refusal(b"Authentication failure"),
            "refused this password and says 'Authentication failure'; check the password",
        ),
        (
            None,
            b"\x01\x01" + b"\x00\x00\x00\x02" + refusal(b"go away"),
            "refused a client without a password and says 'go away'",
        ),
    ],
)
def test_a_refused_handshake_says_what_was_seen_and_what_to_do(password, data, complaint):
    client = new_client(password)
    with pytest.raises(HandshakeRefused, match=complaint):
        client.receive_data(GREETING + data)
    assert not client.is_connected


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (struct.pack(">I", 0) + refusal(b"no"), "says 'no'"),
        (struct.pack(">I", 2) + CHALLENGE + struct.pack(">I", 1), "says no reason"),
    ],
)
def test_version_3_3_refuses_in_its_own_way(data, complaint):
    with pytest.raises(HandshakeRefused, match=complaint):
        new_client("secret12").receive_data(b"RFB 003.003\n" + data)


def test_a_version_before_3_3_is_refused():
    with pytest.raises(HandshakeRefused, match=r"version 2\.9"):
        new_client().receive_data(b"RFB 002.009\n")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400", b"SSH-2.0-Open", b"RFB 003,008\n"])
def test_something_else_than_rfb_is_refused(greeting):
    with pytest.raises(RemoteProtocolError, match="is this address a VNC server's"):
        new_client().receive_data(greeting)


@pytest.mark.parametrize(
    ("init", "complaint"),
    [
        (struct.pack(">HH16sI", 20, 10, RGBX.pack(), 1 << 30), "name of 1073741824 bytes"),
        (server_init(65535, 65535), "65535x65535"),
        (server_init(0, 0), "0x0"),
    ],
)
def test_an_absurd_desktop_is_refused(init, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        new_client().receive_data(GREETING + b"\x01\x01" + bytes(4) + init)


def test_a_refusal_is_repeated_whatever_follows():
    client = new_client()
    with pytest.raises(RemoteProtocolError):
        client.receive_data(b"HTTP/1.1 400")
    with pytest.raises(RemoteProtocolError, match="HTTP"):
        client.receive_data(handshake(20, 10))


def test_handshake_and_picture_may_come_at_once():
    client = new_client()
    events = client.receive_data(handshake(20, 10) + WHOLE + b"\x02")
    assert events == [
        Connected(20, 10, "test"),
        ScreenUpdated(1, 200, len(WHOLE), 0, 0, 20, 10),
        Bell(),
    ]
    assert np.array_equal(client.framebuffer, SCREEN)


def test_every_byte_may_come_alone():
    client = new_client()
    events = []
    for byte in handshake(20, 10) + WHOLE + WHOLE:
        events += client.receive_data(bytes([byte]))
    assert [type(event) for event in events] == [Connected, ScreenUpdated, ScreenUpdated]
    assert np.array_equal(client.framebuffer, SCREEN)


def test_before_the_handshake_there_is_no_screen():
    client = new_client()
    assert client.framebuffer.shape == (0, 0, 4)
    assert (client.width, client.height) == (0, 0)
    assert not client.has_picture


def test_the_next_change_is_asked_for_at_the_header_once_there_is_a_picture():
    client = connected_client(20, 10)
    client.receive_data(WHOLE[:5])
    assert client.data_to_send() == b""
    client.receive_data(WHOLE[5:])
    assert client.has_picture
    assert client.data_to_send() == request(20, 10, is_incremental=True)
    client.receive_data(WHOLE[:5])
    assert client.data_to_send() == request(20, 10, is_incremental=True)
    client.receive_data(WHOLE[5:])
    assert client.data_to_send() == b""


def test_the_whole_screen_is_asked_for_until_it_came():
    client = connected_client(20, 10)
    client.receive_data(update(raw_rectangle(0, 0, SCREEN[:5])))
    assert client.data_to_send() == request(20, 10, is_incremental=False)
    client.receive_data(update())
    assert client.data_to_send() == request(20, 10, is_incremental=False)


def test_a_resized_screen_is_asked_for_whole():
    client = connected_client(20, 10)
    client.receive_data(WHOLE)
    client.data_to_send()
    resized = client.receive_data(update(rectangle(0, 0, 4, 3, Encoding.DESKTOP_SIZE)))
    assert resized == [DesktopResized(4, 3)]
    assert not client.has_picture
    assert client.data_to_send()[-10:] == request(4, 3, is_incremental=False)


def test_nothing_is_asked_for_where_the_caller_asks():
    client = connected_client(20, 10)
    client.auto_request = False
    client.receive_data(WHOLE + WHOLE)
    assert client.data_to_send() == b""
    client.request_update()
    client.request_update(is_incremental=False)
    assert client.data_to_send() == request(20, 10, is_incremental=True) + request(
        20, 10, is_incremental=False
    )


def test_at_each_update_the_iterator_shows_a_whole_picture():
    client = connected_client(20, 10)
    seen = [
        client.framebuffer.copy()
        for event in client.iter_events(WHOLE + update(raw_rectangle(0, 0, ~SCREEN)))
        if isinstance(event, ScreenUpdated)
    ]
    assert np.array_equal(seen, [SCREEN, ~SCREEN])


def test_a_chunk_that_ends_inside_an_update_is_told():
    client = connected_client(20, 10)
    client.receive_data(WHOLE + WHOLE[:50])
    assert client.is_updating
    client.receive_data(WHOLE[50:])
    assert not client.is_updating


def test_keys_are_sent_as_keysyms():
    client = connected_client(20, 10)
    client.key_event(0xFF52, True)
    client.key_event(0xFF52, False)
    assert client.data_to_send() == bytes.fromhex("040100000000ff52040000000000ff52")


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(3, 4, (3, 4)), (-5, 4, (0, 4)), (20, 10, (19, 9)), (10**6, -(10**6), (19, 0))],
)
def test_the_pointer_stays_on_the_screen(x, y, expected):
    client = connected_client(20, 10)
    client.pointer_event(x, y, 5)
    assert client.data_to_send() == struct.pack(">BBHH", 5, 5, *expected)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.key_event(0, True),
        lambda client: client.key_event(1 << 32, True),
        lambda client: client.pointer_event(0, 0, 256),
        lambda client: client.pointer_event(0, 0, -1),
    ],
)
def test_an_event_that_has_no_form_is_refused(act):
    client = connected_client(20, 10)
    with pytest.raises(LocalProtocolError, match="expected a"):
        act(client)
    assert client.data_to_send() == b""


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.key_event(0x20, True),
        lambda client: client.pointer_event(0, 0, 0),
        lambda client: client.request_update(),
    ],
)
def test_nothing_can_be_sent_before_the_handshake_is_done(act):
    with pytest.raises(LocalProtocolError, match="before it is connected"):
        act(new_client())


def test_another_decoder_can_take_over():
    class Fake:
        framebuffer = SCREEN
        has_picture = True
        is_updating = False

        def __init__(self, width, height):
            self.data = b""

        def receive_data(self, data):
            self.data += data

        def next_event(self):
            data, self.data = self.data, b""
            return Bell() if data else None

    client = new_client(decoder=Fake)
    assert client.receive_data(handshake(20, 10) + b"anything") == [
        Connected(20, 10, "test"),
        Bell(),
    ]
    assert client.framebuffer is SCREEN
