"""What an RFB connection has to say, at either end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Connected:
    """The handshake is done; the screen is still unknown."""

    width: int
    """Screen width in pixels."""
    height: int
    """Screen height in pixels."""
    name: str
    """What the server calls its desktop."""


@dataclass(frozen=True)
class UpdateBegun:
    """The header of an update came; its pixels follow. RfbClient keeps this to itself."""


@dataclass(frozen=True)
class ScreenUpdated:
    """An update is complete; x, y, width and height bound all that it touched."""

    rectangles: int
    """How many rectangles of pixels it held; at least 1."""
    pixels: int
    """Sum of their areas."""
    bytes: int
    """Its length on the wire."""
    x: int
    """Left edge in pixels."""
    y: int
    """Top edge in pixels."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""


@dataclass(frozen=True)
class DesktopResized:
    """The screen has a new size; nothing of it is known until it was sent anew."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""


@dataclass(frozen=True)
class Bell:
    """The far end rang."""


@dataclass(frozen=True)
class CutText:
    """The far end's clipboard."""

    text: str
    """Latin-1, as RFB has it."""


RfbEvent: TypeAlias = Connected | UpdateBegun | ScreenUpdated | DesktopResized | Bell | CutText
"""What a client sees of its server."""


@dataclass(frozen=True)
class ClientReady:
    """A client passed the handshake and was told the screen's size."""

    is_shared: bool
    """False if it would have other clients sent away."""


@dataclass(frozen=True)
class KeyEvent:
    """A key went down or up."""

    keysym: int
    """X11 keysym."""
    is_down: bool
    """False on release."""


@dataclass(frozen=True)
class PointerEvent:
    """The pointer is at a place, with these buttons held."""

    x: int
    """Pixels from the left; a client may send any, also outside the screen."""
    y: int
    """Pixels from the top."""
    buttonmask: int
    """Bit 0 is the left button, 1 the middle, 2 the right, 3 and 4 the wheel."""


@dataclass(frozen=True)
class UpdateRequested:
    """The client wants to hear of the screen; ``RfbServer.send_frame`` answers."""

    is_incremental: bool
    """True if only what changed is wanted."""


RfbServerEvent: TypeAlias = ClientReady | KeyEvent | PointerEvent | UpdateRequested
"""What a server sees of its client."""
