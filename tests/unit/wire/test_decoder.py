from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from raygym.errors import RemoteProtocolError
from raygym.wire.decoder import NumpyDecoder
from raygym.wire.encodings import Encoding
from raygym.wire.rfb_events import Bell, CutText, DesktopResized, ScreenUpdated, UpdateBegun
from tests.support.rfb import raw_rectangle, rectangle, update

RNG = np.random.default_rng(0)
LAST_RECT = rectangle(0, 0, 0, 0, Encoding.LAST_RECT)


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 4), np.uint8)


def events(decoder: NumpyDecoder, data: bytes) -> list:
    decoder.receive_data(data)
    return list(iter(decoder.next_event, None))


def test_a_raw_rectangle_is_copied_to_its_place():
    decoder = NumpyDecoder(20, 10)
    picture = noise(4, 6)
    said = events(decoder, update(raw_rectangle(3, 2, picture)))
    assert said == [UpdateBegun(), ScreenUpdated(1, 24, 4 + 12 + 96, 3, 2, 6, 4)]
    assert np.array_equal(decoder.framebuffer[2:6, 3:9], picture)
    assert np.count_nonzero(decoder.framebuffer) == np.count_nonzero(picture)


@pytest.mark.parametrize("chunk_bytes", [1, 3, 4, 23, 24, 25, 100, 1000])
def test_a_raw_rectangle_may_be_cut_anywhere(chunk_bytes):
    decoder = NumpyDecoder(20, 10)
    picture = noise(7, 6)
    data = update(raw_rectangle(3, 2, picture), raw_rectangle(0, 0, picture[:1]))
    for begin in range(0, len(data), chunk_bytes):
        said = events(decoder, data[begin : begin + chunk_bytes])
    assert said[-1] == ScreenUpdated(2, 48, len(data), 0, 0, 9, 9)
    assert np.array_equal(decoder.framebuffer[2:9, 3:9], picture)


def test_a_raw_rectangle_in_small_chunks_takes_linear_time():
    def feed(side_px: int) -> float:
        decoder = NumpyDecoder(side_px, side_px)
        data = update(raw_rectangle(0, 0, noise(side_px, side_px)))
        begin_s = time.process_time()
        for begin in range(0, len(data), 64):
            events(decoder, data[begin : begin + 64])
        assert decoder.has_picture
        return time.process_time() - begin_s

    feed(100)
    # Sixteen times the data; quadratic work would take 256 times as long.
    assert feed(800) < 80 * max(feed(200), 0.005)


def test_a_copied_rectangle_may_overlap_itself():
    decoder = NumpyDecoder(20, 10)
    picture = noise(10, 20)
    events(decoder, update(raw_rectangle(0, 0, picture)))
    copy = rectangle(2, 1, 18, 9, Encoding.COPY_RECT, struct.pack(">HH", 0, 0))
    events(decoder, update(copy))
    assert np.array_equal(decoder.framebuffer[1:, 2:], picture[:-1, :-2])
    assert np.array_equal(decoder.framebuffer[0], picture[0])


def test_an_update_of_unknown_length_ends_with_last_rect():
    decoder = NumpyDecoder(20, 10)
    picture = noise(2, 2)
    data = update(raw_rectangle(0, 0, picture), LAST_RECT, count=0xFFFF)
    assert events(decoder, data + b"\x02")[1:] == [
        ScreenUpdated(1, 4, len(data), 0, 0, 2, 2),
        Bell(),
    ]


def test_there_is_a_picture_once_every_pixel_came():
    decoder = NumpyDecoder(20, 10)
    events(decoder, update(raw_rectangle(0, 0, noise(10, 19))))
    assert not decoder.has_picture
    events(decoder, update(raw_rectangle(19, 1, noise(9, 1))))
    assert not decoder.has_picture
    events(decoder, update(raw_rectangle(19, 0, noise(1, 1))))
    assert decoder.has_picture


def test_a_resize_gives_a_new_framebuffer_without_a_picture():
    decoder = NumpyDecoder(20, 10)
    events(decoder, update(raw_rectangle(0, 0, noise(10, 20))))
    said = events(decoder, update(rectangle(0, 0, 30, 5, Encoding.DESKTOP_SIZE)))
    assert said == [UpdateBegun(), DesktopResized(30, 5)]
    assert decoder.framebuffer.shape == (5, 30, 4)
    assert not decoder.has_picture
    assert not decoder.is_updating


def test_pixels_may_follow_a_resize_in_one_update():
    decoder = NumpyDecoder(20, 10)
    said = events(
        decoder,
        update(rectangle(0, 0, 30, 5, Encoding.DESKTOP_SIZE), raw_rectangle(25, 0, noise(5, 5))),
    )
    assert said[1:] == [DesktopResized(30, 5), ScreenUpdated(1, 25, 4 + 12 + 112, 25, 0, 5, 5)]


def test_a_resize_to_the_same_size_changes_nothing():
    decoder = NumpyDecoder(20, 10)
    events(decoder, update(raw_rectangle(0, 0, noise(10, 20))))
    before = decoder.framebuffer
    assert events(decoder, update(rectangle(0, 0, 20, 10, Encoding.DESKTOP_SIZE))) == [
        UpdateBegun()
    ]
    assert decoder.framebuffer is before
    assert decoder.has_picture


def test_an_update_in_progress_is_told():
    decoder = NumpyDecoder(20, 10)
    data = update(raw_rectangle(0, 0, noise(10, 20)))
    assert events(decoder, data[:50]) == [UpdateBegun()]
    assert decoder.is_updating
    events(decoder, data[50:])
    assert not decoder.is_updating


def test_an_event_comes_before_any_byte_after_it_is_decoded():
    decoder = NumpyDecoder(2, 2)
    first, second = noise(2, 2), noise(2, 2)
    decoder.receive_data(update(raw_rectangle(0, 0, first)) + update(raw_rectangle(0, 0, second)))
    while not isinstance(decoder.next_event(), ScreenUpdated):
        pass
    assert np.array_equal(decoder.framebuffer, first)
    while decoder.next_event() is not None:
        pass
    assert np.array_equal(decoder.framebuffer, second)


def test_the_callers_memory_may_be_reused_after_the_last_event():
    decoder = NumpyDecoder(20, 10)
    picture = noise(10, 20)
    data = update(raw_rectangle(0, 0, picture))
    memory = bytearray(7)
    for begin in range(0, len(data), 7):
        memory[:] = data[begin : begin + 7]
        events(decoder, memory)
    assert np.array_equal(decoder.framebuffer, picture)


def test_empty_rectangles_hold_nothing():
    decoder = NumpyDecoder(20, 10)
    nothing = rectangle(20, 10, 0, 0, Encoding.RAW)
    line = rectangle(0, 0, 0, 10, Encoding.RAW)
    assert isinstance(events(decoder, update(nothing, line))[-1], ScreenUpdated)


def test_bell_clipboard_and_colour_map_pass():
    decoder = NumpyDecoder(20, 10)
    colour_map = b"\x01\x00" + struct.pack(">HH", 0, 3) + bytes(18)
    clipboard = b"\x03\x00\x00\x00" + struct.pack(">I", 5) + b"caf\xe9!"
    assert events(decoder, b"\x02" + colour_map + clipboard) == [Bell(), CutText("café!")]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x07", "message 7 is not known"),
        (b"\x96", "message 150"),
        (b"\x03\x00\x00\x00\xff\xff\xff\xff", "4294967295 bytes announced"),
        (update(rectangle(0, 0, 21, 1, Encoding.RAW)), "outside the desktop of 20x10"),
        (update(rectangle(15, 5, 5, 6, Encoding.TIGHT)), "5x6 at 15,5 lies outside"),
        (update(rectangle(0, 0, 65535, 65535, Encoding.ZRLE)), "outside"),
        (update(rectangle(0, 0, 1, 1, -239)), "encoding -239"),
        (update(rectangle(0, 0, 1, 1, 5)), "encoding 5"),
        (update(rectangle(0, 0, 0, 0, Encoding.DESKTOP_SIZE)), "the server says 0x0"),
        (update(rectangle(0, 0, 5121, 2880, Encoding.DESKTOP_SIZE)), "5121x2880"),
        (update(rectangle(0, 0, 65535, 65535, Encoding.DESKTOP_SIZE)), "65535x65535"),
        (
            update(rectangle(0, 0, 5, 5, Encoding.COPY_RECT, struct.pack(">HH", 16, 0))),
            "5x5 at 16,0 lies outside",
        ),
        (
            update(*[rectangle(0, 0, 20, 10, Encoding.TIGHT, b"\x80\x00\x00\x00")] * 17),
            "over 16 times",
        ),
    ],
)
def test_a_message_against_the_rules_is_refused(data, complaint):
    decoder = NumpyDecoder(20, 10)
    with pytest.raises(RemoteProtocolError, match=complaint):
        events(decoder, data)


def test_a_refusal_is_repeated_whatever_follows():
    decoder = NumpyDecoder(20, 10)
    with pytest.raises(RemoteProtocolError):
        events(decoder, b"\x07")
    with pytest.raises(RemoteProtocolError, match="message 7"):
        events(decoder, update(raw_rectangle(0, 0, noise(1, 1))))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (5121, 1), (1, 2881)])
def test_a_desktop_without_or_beyond_size_is_refused(size):
    with pytest.raises(RemoteProtocolError, match="expected 1x1 to 5120x2880"):
        NumpyDecoder(*size)
