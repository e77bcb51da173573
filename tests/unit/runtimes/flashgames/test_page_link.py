from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from raygym.errors import SessionLost, StepTimeout
from raygym.runtimes.flashgames.page_link import PageLink


class Page:
    """The other end: what it says next is prepared before it is asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sender: threading.Thread | None = None

    def says(self, *frames: Frame, is_masked: bool = True) -> None:
        data = b"".join(frame.serialize(mask=is_masked) for frame in frames)
        self.sender = threading.Thread(target=self.sock.sendall, args=(data,))
        self.sender.start()

    def close(self) -> None:
        self.sock.close()
        if self.sender is not None:
            self.sender.join(10)


@pytest.fixture
def ends() -> Iterator[tuple[PageLink, Page]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    link, page = PageLink(ours), Page(theirs)
    yield link, page
    link.close()
    page.close()


def text(**said: object) -> Frame:
    return Frame(Opcode.TEXT, json.dumps(said).encode())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 125, 126, 65_535, 65_536, 1_228_800])
def test_an_answer_is_a_text_and_a_picture_of_any_size(ends, size):
    link, page = ends
    picture = os.urandom(size)
    page.says(text(reward=1.5), Frame(Opcode.BINARY, picture))
    said, got = link.ask(b"{}", max_bytes=size, timeout_s=10)
    assert said == {"reward": 1.5}
    assert got.tobytes() == picture


def test_a_picture_may_come_in_pieces_with_a_ping_between(ends):
    link, page = ends
    parts = [os.urandom(n) for n in (3, 70_000, 11)]
    page.says(
        text(),
        Frame(Opcode.BINARY, parts[0], fin=False),
        Frame(Opcode.PING, b"?"),
        Frame(Opcode.CONT, parts[1], fin=False),
        Frame(Opcode.CONT, parts[2]),
    )
    _, got = link.ask(b"{}", max_bytes=80_000, timeout_s=10)
    assert got.tobytes() == b"".join(parts)


def test_a_picture_that_is_kept_does_not_stand_in_the_way_of_a_larger_one(ends):
    link, page = ends
    page.says(text(), Frame(Opcode.BINARY, b"abc"))
    _, kept = link.ask(b"{}", max_bytes=3, timeout_s=10)
    page.says(text(), Frame(Opcode.BINARY, bytes(2_000_000)))
    assert len(link.ask(b"{}", max_bytes=2_000_000, timeout_s=10)[1]) == 2_000_000
    assert len(kept) == 3


@pytest.mark.parametrize("size", [5, 300, 70_000])
def test_an_order_of_any_size_arrives_unmasked(ends, size):
    link, page = ends
    order = b"x" * size
    page.says(text(), Frame(Opcode.BINARY, b""))
    link.ask(order, max_bytes=1, timeout_s=10)
    got = b""
    while len(got) < size:
        got += page.sock.recv(1 << 20)
    head = len(got) - size
    assert got[head:] == order
    assert got[0] == 0x80 | Opcode.TEXT
    length = {2: got[1], 4: struct.unpack(">H", got[2:4])[0]}
    assert (length[head] if head in length else struct.unpack(">Q", got[2:10])[0]) == size


def test_no_answer_in_time_is_a_step_timeout(ends):
    link, _ = ends
    with pytest.raises(StepTimeout, match=r"no answer within 0\.05 s"):
        link.ask(b"{}", max_bytes=1, timeout_s=0.05)


@pytest.mark.parametrize(
    ("frames", "is_masked", "words"),
    [
        ([Frame(Opcode.CLOSE, b"\x03\xe8bye")], True, "the page closed it"),
        ([text(error="no such thing")], True, "no such thing"),
        ([Frame(Opcode.TEXT, b"not json")], True, "lost"),
        ([Frame(Opcode.TEXT, b"[]"), Frame(Opcode.BINARY, b"toolong")], True, "kind 2 and 7"),
        ([text(), text()], True, "kind 1"),
        ([Frame(Opcode.CONT, b"{}")], True, "kind 0"),
        ([text()], False, "not masked"),
    ],
)
def test_what_makes_no_sense_is_a_lost_session(ends, frames, is_masked, words):
    link, page = ends
    page.says(*frames, is_masked=is_masked)
    with pytest.raises(SessionLost, match=words):
        link.ask(b"{}", max_bytes=4, timeout_s=10)


def test_a_page_that_hangs_up_is_a_lost_session_at_once(ends):
    link, page = ends
    page.close()
    with pytest.raises(SessionLost):
        link.ask(b"{}", max_bytes=4, timeout_s=10)


def test_closing_it_from_elsewhere_wakes_whoever_waits(ends):
    link, _ = ends
    closer = threading.Timer(0.05, link.close)
    closer.start()
    with pytest.raises(SessionLost):
        link.ask(b"{}", max_bytes=4, timeout_s=10)
    closer.join()
