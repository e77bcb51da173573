from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg

from raygym.errors import RemoteProtocolError
from raygym.wire.framebuffer import Framebuffer
from raygym.wire.jpeg import paint_jpeg

HEIGHT, WIDTH = 24, 40


def picture() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 5, y * 9, 255 - x * 3], -1).astype(np.uint8)


def encoded(**options) -> bytes:
    return simplejpeg.encode_jpeg(picture(), colorspace="RGB", quality=95, **options)


def test_a_picture_is_painted_at_its_place_and_nowhere_else():
    framebuffer = Framebuffer(64, 48)
    paint_jpeg(framebuffer, 10, 20, WIDTH, HEIGHT, memoryview(encoded()))
    error = np.abs(framebuffer.pixels[20:44, 10:50, :3].astype(int) - picture())
    assert error.max() < 12
    framebuffer.pixels[20:44, 10:50] = 0
    assert not framebuffer.pixels.any()


def test_a_picture_as_wide_as_the_screen_is_painted_too():
    framebuffer = Framebuffer(WIDTH, 48)
    paint_jpeg(framebuffer, 0, 24, WIDTH, HEIGHT, memoryview(encoded(colorsubsampling="420")))
    assert np.abs(framebuffer.pixels[24:, :, :3].astype(int) - picture()).mean() < 6
    assert not framebuffer.pixels[:24].any()


def test_a_grey_picture_fills_all_three_channels():
    framebuffer = Framebuffer(WIDTH, HEIGHT)
    paint_jpeg(framebuffer, 0, 0, WIDTH, HEIGHT, memoryview(encoded(colorsubsampling="Gray")))
    red, green, blue = np.moveaxis(framebuffer.pixels[..., :3], -1, 0)
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)
    assert red.std() > 10


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "begins with"),
        (b"\xff\xd8", "no header"),
        (b"not a picture at all", "begins with"),
        (encoded()[:200], "damaged"),
        (encoded()[:-60], "damaged"),
        (b"\xff\xd8\xff\xff" + encoded()[2:], "no header"),
    ],
)
def test_a_damaged_picture_is_refused(data, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        paint_jpeg(Framebuffer(WIDTH, HEIGHT), 0, 0, WIDTH, HEIGHT, memoryview(data))


def test_a_picture_of_another_size_is_refused_before_it_is_decoded():
    with pytest.raises(RemoteProtocolError, match="of 39x24 holds a picture of 40x24"):
        paint_jpeg(Framebuffer(64, 48), 0, 0, 39, HEIGHT, memoryview(encoded()))


def test_a_progressive_picture_is_refused():
    _, data = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    with pytest.raises(RemoteProtocolError, match="sequential"):
        paint_jpeg(Framebuffer(WIDTH, HEIGHT), 0, 0, WIDTH, HEIGHT, memoryview(data.tobytes()))
