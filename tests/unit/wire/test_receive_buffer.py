from __future__ import annotations

import struct

import pytest

from raygym.wire.receive_buffer import ReceiveBuffer


def test_bytes_come_out_in_the_order_in_which_they_went_in():
    buffer = ReceiveBuffer()
    for part in (b"ab", b"c", b"", b"defg"):
        buffer.append(part)
    assert buffer.wait_for(7)
    assert bytes(buffer.take(3)) == b"abc"
    assert buffer.take_byte() == ord("d")
    assert bytes(buffer.take(3)) == b"efg"
    assert buffer.available == 0
    assert buffer.taken_bytes == 7


def test_waiting_for_more_than_there_is_keeps_what_is_there():
    buffer = ReceiveBuffer()
    buffer.append(b"abc")
    assert not buffer.wait_for(4)
    assert buffer.available == 0
    buffer.append(b"d")
    assert buffer.wait_for(4)
    assert bytes(buffer.take(4)) == b"abcd"


def test_the_callers_memory_may_change_once_waiting_has_begun():
    buffer = ReceiveBuffer()
    memory = bytearray(b"abc")
    buffer.append(memory)
    buffer.wait_for(4)
    memory[:] = b"xyz longer than before"
    buffer.append(b"d")
    assert buffer.wait_for(4)
    assert bytes(buffer.take(4)) == b"abcd"


def test_bytes_are_not_copied_when_nothing_waits():
    buffer = ReceiveBuffer()
    memory = bytearray(b"abc")
    buffer.append(memory)
    view = buffer.take(3)
    memory[0] = ord("x")
    assert bytes(view) == b"xbc"


def test_appending_to_unread_bytes_keeps_both():
    buffer = ReceiveBuffer()
    buffer.append(b"abcd")
    buffer.take(1)
    buffer.append(b"ef")
    assert buffer.wait_for(5)
    assert bytes(buffer.take(5)) == b"bcdef"


def test_a_record_is_unpacked():
    buffer = ReceiveBuffer()
    buffer.append(b"\x01\x02\x03rest")
    assert buffer.unpack(struct.Struct(">BH")) == (1, 0x0203)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_the_rest_is_everything_that_was_not_taken(is_waiting):
    buffer = ReceiveBuffer()
    buffer.append(b"abcd")
    buffer.take(1)
    if is_waiting:
        buffer.wait_for(10)
    assert buffer.take_rest() == b"bcd"
    assert buffer.available == 0
    assert not buffer.wait_for(1)
    assert buffer.taken_bytes == 4
