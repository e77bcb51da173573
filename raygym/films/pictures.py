"""What a film and its contact sheet show: the newest picture, or the traces of a vector."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from raygym.core import UInt8Array

_TRACE_SIZE_PX = (640, 480)
_TRACE_STEPS = 200
_TRACE_MARGIN_PX = 12
MOST_TRACES = 16
"""Longest vector that is drawn."""
_PAPER, _INK, _RULE, _TRACE = (255, 255, 255), (33, 37, 41), (222, 226, 230), (28, 110, 164)
_GREY, _RED = (92, 99, 106), (178, 34, 52)

SHEET_PICTURES = 12
_COLUMNS, _CELL_PX, _GAP_PX = 4, 300, 16
_HEAD_PX, _CAPTION_PX = 84, 26


def can_be_shown(observation: npt.NDArray[Any]) -> bool:
    """Returns whether there is a way to show an observation of this shape and dtype."""
    if observation.dtype == np.uint8 and observation.ndim in (2, 3):
        return True
    return observation.ndim == 1 and 1 <= observation.size <= MOST_TRACES


def newest_picture(observation: UInt8Array, channels: int) -> UInt8Array:
    """Returns the newest of the pictures that an observation stacks.

    Args:
        observation: uint8[H, W] or uint8[H, W, C * stack], the newest last.
        channels: C of one picture: 1 or 3.

    Returns:
        uint8[H, W, 1 or 3], a view. Channels that are no such stack give their last one.
    """
    pictures = observation if observation.ndim == 3 else observation[..., None]
    return pictures[..., -(channels if pictures.shape[2] % channels == 0 else 1) :]


class Traces:
    """Draws a vector that changes: each component as a line over the last steps."""

    def __init__(self) -> None:
        self._values: collections.deque[npt.NDArray[np.float64]] = collections.deque(
            maxlen=_TRACE_STEPS
        )
        self._low: npt.NDArray[np.float64] | None = None
        self._high: npt.NDArray[np.float64] | None = None

    def picture(self, vector: npt.NDArray[Any]) -> UInt8Array:
        """Adds a vector, [N], and returns what the last ones look like: uint8[480, 640, 3]."""
        values = np.nan_to_num(vector.astype(np.float64))
        self._values.append(values)
        self._low = values if self._low is None else np.minimum(self._low, values)
        self._high = values if self._high is None else np.maximum(self._high, values)
        width, height = _TRACE_SIZE_PX
        picture = np.full((height, width, 3), _PAPER, np.uint8)
        table = np.stack(self._values)
        span = np.maximum(self._high - self._low, 1e-9)
        right = width - 120
        columns = right - (len(table) - 1 - np.arange(len(table))) * (right / _TRACE_STEPS)
        row_px = height / len(values)
        for number, value in enumerate(values):
            top = number * row_px + _TRACE_MARGIN_PX
            usable = row_px - 2 * _TRACE_MARGIN_PX
            share = (table[:, number] - self._low[number]) / span[number]
            rows = top + (1 - share) * usable
            points = np.stack([columns, rows], axis=1).round().astype(np.int32)
            end = round((number + 1) * row_px)
            cv2.line(picture, (0, end), (width, end), _RULE, 1)
            cv2.polylines(picture, [points], isClosed=False, color=_TRACE, thickness=2)
            cv2.circle(picture, points[-1].tolist(), 4, _TRACE, -1, cv2.LINE_AA)
            place = (right + 14, round(top + usable / 2) + 5)
            cv2.putText(
                picture, f"{value:+.3g}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA
            )
        return picture


@dataclass(frozen=True)
class Still:
    """One picture of a film."""

    step: int
    at_s: float
    picture: UInt8Array
    """uint8[H, W, 3 or 1]."""


class Stills:
    """Keeps some pictures of a film of unknown length, evenly spaced, and its last."""

    def __init__(self) -> None:
        self._kept: list[Still] = []
        self._stride = 1
        self._count = 0
        self._last: Still | None = None

    def add(self, still: Still) -> None:
        """Takes the next picture."""
        self._last = still
        if self._count % self._stride == 0:
            self._kept.append(still)
            if len(self._kept) > 4 * SHEET_PICTURES:
                del self._kept[1::2]
                self._stride *= 2
        self._count += 1

    def chosen(self) -> list[Still]:
        """Returns at most twelve, the first and the last among them."""
        stills = list(self._kept)
        if self._last is not None and stills[-1] is not self._last:
            stills.append(self._last)
        count = min(SHEET_PICTURES, len(stills))
        return [stills[i] for i in np.linspace(0, len(stills) - 1, count).round().astype(int)]


def contact_sheet(
    stills: Sequence[Still], *, title: str, subtitle: str, warning: str = ""
) -> Image.Image:
    """Draws pictures of a film on one page.

    Args:
        stills: At least one.
        title: What it is.
        subtitle: What came of it.
        warning: What went wrong, in red; empty for nothing.
    """
    height, width = stills[0].picture.shape[:2]
    cell = (_CELL_PX, max(1, round(_CELL_PX * height / width)))
    columns = min(_COLUMNS, len(stills))
    rows = -(-len(stills) // columns)
    head = _HEAD_PX + (_CAPTION_PX if warning else 0)
    sheet_width = _COLUMNS * (_CELL_PX + _GAP_PX) + _GAP_PX
    size = sheet_width, head + rows * (cell[1] + _CAPTION_PX + _GAP_PX) + _GAP_PX // 2
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, 14), title, fill=_INK, font=ImageFont.load_default(25))
    small = ImageFont.load_default(17)
    draw.text((_GAP_PX, 50), subtitle, fill=_GREY, font=small)
    if warning:
        draw.text((_GAP_PX, 50 + _CAPTION_PX), _fitted(warning), fill=_RED, font=small)
    caption = ImageFont.load_default(14)
    for number, still in enumerate(stills):
        x = _GAP_PX + number % columns * (_CELL_PX + _GAP_PX)
        y = head + number // columns * (cell[1] + _CAPTION_PX + _GAP_PX)
        sheet.paste(_thumbnail(still.picture, cell), (x, y))
        draw.rectangle((x - 1, y - 1, x + cell[0], y + cell[1]), outline=_RULE)
        text = f"step {still.step}   {still.at_s:.1f} s"
        draw.text((x, y + cell[1] + 6), text, fill=_GREY, font=caption)
    return sheet


def _fitted(text: str, most: int = 150) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def _thumbnail(picture: UInt8Array, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
    is_smaller = picture.shape[1] < size[0]
    return image.resize(size, Image.Resampling.NEAREST if is_smaller else Image.Resampling.BOX)
