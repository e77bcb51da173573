"""RFB's numbers: messages, encodings, security types, and what a client asks for.

RFC 6143, and the RFB community specification for Tight and its quality levels.
"""

from __future__ import annotations

import enum
import struct

from raygym.config import VncOptions

MAX_WIDTH_PX = 5120
MAX_HEIGHT_PX = 2880
MAX_TEXT_BYTES = 1 << 20
"""Longest clipboard or refusal that is taken from a peer."""
MAX_NAME_BYTES = 4096
"""Longest desktop name that is taken from a server."""


class Encoding(enum.IntEnum):
    """What a rectangle holds."""

    RAW = 0
    COPY_RECT = 1
    TIGHT = 7
    ZRLE = 16
    DESKTOP_SIZE = -223
    LAST_RECT = -224


class Security(enum.IntEnum):
    """How a client proves that it may enter."""

    INVALID = 0
    NONE = 1
    VNC_AUTH = 2


class ServerMessage(enum.IntEnum):
    """First byte of what a server says."""

    FRAMEBUFFER_UPDATE = 0
    SET_COLOUR_MAP_ENTRIES = 1
    BELL = 2
    CUT_TEXT = 3


class ClientMessage(enum.IntEnum):
    """First byte of what a client says."""

    SET_PIXEL_FORMAT = 0
    SET_ENCODINGS = 2
    FRAMEBUFFER_UPDATE_REQUEST = 3
    KEY_EVENT = 4
    POINTER_EVENT = 5
    CUT_TEXT = 6


RECTANGLE = struct.Struct(">HHHHi")
"""x, y, width, height, encoding."""
POINT = struct.Struct(">HH")
"""x, y."""
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
SERVER_INIT = struct.Struct(">HH16sI")
"""Width, height, pixel format, length of the name."""

COARSE_QUALITIES = (15, 29, 41, 42, 62, 77, 79, 86, 92, 100)
"""JPEG quality that a server takes for each coarse level."""
_COARSE_QUALITY = -32
_FINE_QUALITY = -512
_SUBSAMPLE = -768
_COMPRESS = -256


def coarse_level(quality: int) -> int:
    """Returns the coarse level, 0 to 9, whose JPEG quality is nearest to ``quality``."""
    return min(range(10), key=lambda level: abs(COARSE_QUALITIES[level] - quality))


def requested_encodings(options: VncOptions) -> list[int]:
    """Returns what SetEncodings lists, most wanted first."""
    preferred = {
        "tight": [Encoding.TIGHT, Encoding.ZRLE],
        "zrle": [Encoding.ZRLE],
        "raw": [],
    }[options.encoding]
    numbers = [*preferred, Encoding.COPY_RECT, Encoding.RAW]
    if options.encoding == "raw":
        numbers = [Encoding.RAW, Encoding.COPY_RECT]
    wanted: list[int] = [*numbers, Encoding.DESKTOP_SIZE, Encoding.LAST_RECT]
    if options.compress_level is not None:
        wanted.append(_COMPRESS + options.compress_level)
    if options.encoding == "tight" and options.fine_quality_level is not None:
        # libvncserver obeys the last of these, TigerVNC the finest: fine after coarse suits both.
        wanted.append(_COARSE_QUALITY + coarse_level(options.fine_quality_level))
        wanted.append(_FINE_QUALITY + options.fine_quality_level)
        if options.subsample_level is not None:
            wanted.append(_SUBSAMPLE + options.subsample_level)
    return wanted


def understood_options(numbers: list[int]) -> VncOptions:
    """Reads what a client's SetEncodings asks of a server: the reverse of the above.

    Args:
        numbers: As they came, most wanted first; unknown ones are passed over.

    Returns:
        Options whose ``fine_quality_level`` is None where no quality was asked for, which
        asks for lossless pictures.
    """
    names: dict[int, str] = {Encoding.TIGHT: "tight", Encoding.ZRLE: "zrle", Encoding.RAW: "raw"}
    encoding = next((names[n] for n in numbers if n in names), "raw")

    def last(base: int, high: int) -> int | None:
        found = [n - base for n in numbers if 0 <= n - base <= high]
        return found[-1] if found else None

    quality = last(_FINE_QUALITY, 100)
    coarse = last(_COARSE_QUALITY, 9)
    if quality is None and coarse is not None:
        quality = COARSE_QUALITIES[coarse]
    return VncOptions(
        encoding=encoding,  # type: ignore[arg-type]  # one of the three names above
        fine_quality_level=quality,
        subsample_level=last(_SUBSAMPLE, 3),
        compress_level=last(_COMPRESS, 9),
    )
