"""Records what a real Xvnc sends, and the picture that it means.

    python -m tests.golden.record

For each case it draws the same pictures and keeps two files: ``NAME.rfb.gz``, every byte that
the server sent, and ``NAME.png``, the last screen. The screen is fetched by a second connection
in raw encoding and compared with what was drawn, so neither relies on the decoder under test.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from raygym.config import VncOptions
from tests.support.rfb_recorder import Recorder
from tests.support.x11 import X11Canvas
from tests.support.xvnc import Xvnc, running_xvnc

DIRECTORY = Path(__file__).parent
PASSWORD = "golden12"
WIDTH_PX, HEIGHT_PX = 320, 240


@dataclass(frozen=True)
class Case:
    """One recording."""

    name: str
    """Name of its files."""
    options: VncOptions
    """What the client asks for."""
    is_old: bool = False
    """Whether RFB 3.3 is spoken."""
    is_resized: bool = False
    """Whether the screen shrinks in the middle."""


CASES = (
    Case("raw", VncOptions(encoding="raw")),
    Case("zrle", VncOptions(encoding="zrle")),
    Case("zrle_3_3", VncOptions(encoding="zrle", compress_level=6), is_old=True),
    Case("tight_lossless", VncOptions(fine_quality_level=None)),
    Case("tight_resized", VncOptions(fine_quality_level=None), is_resized=True),
    Case("tight_jpeg", VncOptions(fine_quality_level=50, subsample_level=2)),
    Case("tight_jpeg_grey", VncOptions(fine_quality_level=80, subsample_level=3)),
)


class Canvas:
    """Draws on the X server and, by other means, on an array."""

    def __init__(self, x11: X11Canvas) -> None:
        self.x11 = x11
        self.expected = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)

    def fill(self, x: int, y: int, width: int, height: int, colour: tuple[int, int, int]) -> None:
        self.x11.fill(x, y, width, height, colour)
        self.expected[y : y + height, x : x + width] = colour

    def put(self, x: int, y: int, rgb: np.ndarray) -> None:
        self.x11.put(x, y, rgb)
        self.expected[y : y + rgb.shape[0], x : x + rgb.shape[1]] = rgb

    def copy(self, x: int, y: int, width: int, height: int, to_x: int, to_y: int) -> None:
        self.x11.copy(x, y, width, height, to_x, to_y)
        part = self.expected[y : y + height, x : x + width].copy()
        self.expected[to_y : to_y + height, to_x : to_x + width] = part


def plasma(width: int, height: int) -> np.ndarray:
    """Returns a smooth picture of many colours, uint8[height, width, 3]."""
    y, x = np.mgrid[:height, :width] / 23.0
    waves = np.stack([np.sin(x + y / 2), np.sin(y - x / 3), np.cos(x / 2 + y)], -1)
    return (waves * 110 + 128).astype(np.uint8)


def checkers(width: int, height: int, colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Returns a picture of few colours in a pattern without runs, uint8[height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.array(colours, np.uint8)[(x * 7 + y * 3 + x * y // 5) % len(colours)]


def _background(canvas: Canvas) -> None:
    canvas.fill(0, 0, 320, 240, (20, 40, 60))
    canvas.fill(10, 10, 90, 50, (200, 30, 30))
    canvas.fill(101, 13, 3, 7, (0, 255, 0))


def _noise(canvas: Canvas) -> None:
    canvas.put(201, 21, np.random.default_rng(1).integers(0, 256, (30, 70, 3), np.uint8))


def _shades(canvas: Canvas) -> None:
    canvas.put(5, 70, checkers(131, 61, [(n * 9, 255 - n * 5, n) for n in range(26)]))


def _two_colours(canvas: Canvas) -> None:
    canvas.put(150, 5, checkers(45, 33, [(255, 255, 255), (0, 0, 0)]))


def _few_colours(canvas: Canvas) -> None:
    canvas.put(60, 140, checkers(75, 19, [(n * 60, 9, 200 - n * 40) for n in range(4)]))


def _dozen_colours(canvas: Canvas) -> None:
    canvas.put(60, 160, checkers(41, 29, [(n * 20, n, 200 - n * 10) for n in range(12)]))


SCENES: tuple[Callable[[Canvas], None], ...] = (
    _background,
    lambda canvas: canvas.put(140, 60, plasma(150, 130)),
    _noise,
    _shades,
    _two_colours,
    _few_colours,
    _dozen_colours,
    lambda canvas: canvas.copy(0, 60, 320, 150, 0, 83),
    lambda canvas: canvas.put(155, 130, np.full((1, 3, 3), 77, np.uint8)),
    lambda canvas: canvas.put(310, 230, plasma(7, 5)),
)


def _raw_screen(xvnc: Xvnc) -> np.ndarray:
    with Recorder(xvnc, VncOptions(encoding="raw"), password=PASSWORD) as recorder:
        recorder.settle()
        return recorder.screen.copy()


def record(case: Case, directory: Path) -> tuple[bytes, np.ndarray]:
    """Returns the server's bytes and the last screen, uint8[H, W, 3]."""
    with running_xvnc(directory, password=PASSWORD, width=WIDTH_PX, height=HEIGHT_PX) as xvnc:
        canvas = Canvas(X11Canvas(xvnc.display))
        with Recorder(xvnc, case.options, password=PASSWORD, is_old=case.is_old) as recorder:
            for number, scene in enumerate(SCENES):
                if case.is_resized and number == 5:
                    recorder.resize(240, 180)
                scene(canvas)
                canvas.x11.sync()
                recorder.settle()
            screen = _raw_screen(xvnc)
        canvas.x11.close()
    if not case.is_resized:
        assert np.array_equal(screen, canvas.expected), "Xvnc shows something else than was drawn"
    return bytes(recorder.received), screen


def main() -> None:
    """Records every case."""
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory:
            stream, screen = record(case, Path(directory))
        (DIRECTORY / f"{case.name}.rfb.gz").write_bytes(gzip.compress(stream, 9, mtime=0))
        assert cv2.imwrite(str(DIRECTORY / f"{case.name}.png"), screen[..., ::-1])
        print(f"{case.name}: {len(stream)} bytes, {screen.shape[1]}x{screen.shape[0]}")


if __name__ == "__main__":
    main()
