"""What a VNC server would send, built by hand."""

from __future__ import annotations

import struct

import numpy as np

from raygym.config import VncOptions
from raygym.wire.encodings import Encoding
from raygym.wire.pixel_format import RGBX
from raygym.wire.rfb_client import RfbClient

GREETING = b"RFB 003.008\n"


def server_init(width: int, height: int, name: bytes = b"test") -> bytes:
    """Returns ServerInit."""
    return struct.pack(">HH16sI", width, height, RGBX.pack(), len(name)) + name


def handshake(width: int, height: int) -> bytes:
    """Returns all that a 3.8 server without a password says until it is ready."""
    return GREETING + b"\x01\x01" + bytes(4) + server_init(width, height)


def rectangle(x: int, y: int, width: int, height: int, encoding: int, body: bytes = b"") -> bytes:
    """Returns one rectangle of an update."""
    return struct.pack(">HHHHi", x, y, width, height, encoding) + body


def update(*rectangles: bytes, count: int | None = None) -> bytes:
    """Returns a FramebufferUpdate."""
    said = len(rectangles) if count is None else count
    return struct.pack(">BxH", 0, said) + b"".join(rectangles)


def raw_rectangle(x: int, y: int, rgbx: np.ndarray) -> bytes:
    """Returns a raw rectangle of uint8[H, W, 4]."""
    height, width, _ = rgbx.shape
    return rectangle(x, y, width, height, Encoding.RAW, rgbx.tobytes())


def connected_client(width: int, height: int) -> RfbClient:
    """Returns a client that is connected and has nothing left to send."""
    client = RfbClient(password=None, options=VncOptions())
    client.receive_data(handshake(width, height))
    client.data_to_send()
    return client
