"""Our RFB client against a living Xvnc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused
from raygym.wire.keysyms import keysym
from tests.support.rfb_recorder import Recorder
from tests.support.x11 import X11Canvas
from tests.support.xvnc import Xvnc, running_xvnc

PASSWORD = "secret12"
WIDTH, HEIGHT = 320, 240
DEADLINE_S = 60.0
EVERY_ENCODING = [
    VncOptions(encoding="raw"),
    VncOptions(encoding="zrle"),
    VncOptions(fine_quality_level=None),
    VncOptions(fine_quality_level=95, subsample_level=0),
]


@pytest.fixture(scope="module")
def xvnc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Xvnc]:
    directory: Path = tmp_path_factory.mktemp("xvnc")
    with running_xvnc(directory, password=PASSWORD, width=WIDTH, height=HEIGHT) as running:
        yield running


@pytest.fixture
def canvas(xvnc: Xvnc) -> Iterator[X11Canvas]:
    drawing = X11Canvas(xvnc.display)
    drawing.fill(0, 0, WIDTH, HEIGHT, (0, 0, 0))
    drawing.sync()
    yield drawing
    drawing.close()


def pictures() -> list[np.ndarray]:
    """A smooth, a noisy and a two-coloured picture, each uint8[100, 120, 3]."""
    y, x = np.mgrid[:100, :120]
    smooth = np.stack([x * 2, y * 2, 255 - x - y], -1).astype(np.uint8)
    noisy = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    two = np.where((x * y // 9 % 2)[..., None] > 0, [250, 250, 10], [0, 60, 0]).astype(np.uint8)
    return [smooth, noisy, two]


@pytest.mark.parametrize("options", EVERY_ENCODING, ids=str)
def test_what_is_drawn_is_seen(xvnc, canvas, options):
    expected = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    is_lossy = options.encoding == "tight" and options.fine_quality_level is not None
    with Recorder(xvnc, options, password=PASSWORD) as connection:

        def mean_error() -> float:
            return float(np.abs(connection.screen.astype(int) - expected).mean())

        def is_seen() -> bool:
            return mean_error() <= (2 if is_lossy else 0)

        connection.run_until(lambda: connection.client.has_picture and is_seen())
        for number, picture in enumerate(pictures()):
            canvas.put(number * 50, number * 60, picture)
            canvas.fill(300, number, 9, 5, (255, number, 0))
            expected[number * 60 : number * 60 + 100, number * 50 : number * 50 + 120] = picture
            expected[number : number + 5, 300:309] = (255, number, 0)
            connection.run_until(is_seen, lambda: f"mean error {mean_error()}")


def test_a_scrolled_screen_is_seen(xvnc, canvas):
    (smooth, *_) = pictures()
    canvas.put(10, 20, smooth)
    with Recorder(xvnc, VncOptions(encoding="raw"), password=PASSWORD) as connection:
        connection.run_until(lambda: np.array_equal(connection.screen[20:120, 10:130], smooth))
        canvas.copy(10, 20, 120, 100, 13, 24)
        canvas.sync()
        connection.run_until(lambda: np.array_equal(connection.screen[24:124, 13:133], smooth))


def test_a_wrong_password_is_refused_with_what_to_do(xvnc):
    with (
        Recorder(xvnc, password="wrong") as connection,
        pytest.raises(HandshakeRefused, match=r"Authentication failure.*check the password"),
    ):
        connection.run_until(lambda: connection.client.is_connected)


def test_a_missing_password_is_told(xvnc):
    with (
        Recorder(xvnc, password=None) as connection,
        pytest.raises(HandshakeRefused, match="none was given"),
    ):
        connection.run_until(lambda: connection.client.is_connected)


def test_keys_and_pointer_arrive(xvnc, canvas):
    with Recorder(xvnc, password=PASSWORD) as connection:
        connection.run_until(lambda: connection.client.is_connected)
        connection.client.key_event(keysym("ArrowUp"), True)
        connection.client.key_event(keysym("a"), True)
        connection.client.pointer_event(123, 45, 0b101)
        connection.send()
        wait_until(lambda: canvas.pointer() == (123, 45, 0b101))
        assert canvas.held_keysyms() == {keysym("ArrowUp"), keysym("a")}
        connection.client.key_event(keysym("ArrowUp"), False)
        connection.client.key_event(keysym("a"), False)
        connection.client.pointer_event(1, 2, 0)
        connection.send()
        wait_until(lambda: canvas.pointer() == (1, 2, 0))
        assert canvas.held_keysyms() == set()


def wait_until(is_reached: Callable[[], bool]) -> None:
    """Asks the X server, which takes its time to answer, until the condition holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_reached():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
