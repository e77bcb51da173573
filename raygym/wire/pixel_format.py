"""How a pixel lies in memory (RFC 6143 7.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from raygym.core import UInt8Array
from raygym.errors import RemoteProtocolError

_LAYOUT = struct.Struct(">BBBBHHHBBB3x")


@dataclass(frozen=True)
class PixelFormat:
    """A pixel format as the wire has it."""

    bits_per_pixel: int
    """8, 16 or 32."""
    depth: int
    """Useful bits."""
    is_big_endian: bool
    """Order of the bytes of one pixel."""
    is_true_colour: bool
    """False where pixels are indices of a colour map."""
    red_max: int
    """Largest red value, 2**n - 1."""
    green_max: int
    """Largest green value."""
    blue_max: int
    """Largest blue value."""
    red_shift: int
    """Bits to the right of red."""
    green_shift: int
    """Bits to the right of green."""
    blue_shift: int
    """Bits to the right of blue."""

    @classmethod
    def parse(cls, data: bytes | memoryview) -> PixelFormat:
        """Reads the 16 bytes of a pixel format.

        Raises:
            RemoteProtocolError: No true-colour format of 8, 16 or 32 bits.
        """
        bits, depth, big, true, *rest = _LAYOUT.unpack(data)
        parsed = cls(bits, depth, big != 0, true != 0, *rest)
        shifts = (parsed.red_shift, parsed.green_shift, parsed.blue_shift)
        maxima = (parsed.red_max, parsed.green_max, parsed.blue_max)
        if (
            bits not in (8, 16, 32)
            or not parsed.is_true_colour
            or any(m << s >= 1 << bits for m, s in zip(maxima, shifts, strict=True))
        ):
            raise RemoteProtocolError(
                f"RFB pixel format: expected true colour of 8, 16 or 32 bits, got {parsed}"
            )
        return parsed

    def pack(self) -> bytes:
        """Returns its 16 bytes."""
        return _LAYOUT.pack(
            self.bits_per_pixel,
            self.depth,
            self.is_big_endian,
            self.is_true_colour,
            self.red_max,
            self.green_max,
            self.blue_max,
            self.red_shift,
            self.green_shift,
            self.blue_shift,
        )

    @property
    def has_byte_channels(self) -> bool:
        """Whether a pixel is four bytes, three of them holding a channel each."""
        return (
            self.bits_per_pixel == 32
            and (self.red_max, self.green_max, self.blue_max) == (255, 255, 255)
            and sorted(self.channel_bytes()) in ([0, 1, 2], [1, 2, 3])
            and not (self.red_shift | self.green_shift | self.blue_shift) & 7
        )

    @property
    def is_tight_rgb(self) -> bool:
        """Whether Tight sends a pixel as three bytes R, G, B."""
        return self.has_byte_channels and self.depth == 24

    def channel_bytes(self) -> tuple[int, int, int]:
        """Returns the places of red, green and blue among the four bytes of a pixel."""
        places = (self.red_shift // 8, self.green_shift // 8, self.blue_shift // 8)
        red, green, blue = (3 - p for p in places) if self.is_big_endian else places
        return red, green, blue

    def encode(self, rgb: UInt8Array) -> UInt8Array:
        """Converts a picture.

        Args:
            rgb: uint8[H, W, 3].

        Returns:
            uint8[H, W, bytes per pixel], C-contiguous.
        """
        if self == RGBX:
            return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA), np.uint8)
        if self.has_byte_channels:
            pixels = np.zeros((*rgb.shape[:2], 4), np.uint8)
            pixels[..., self.channel_bytes()] = rgb
            return pixels
        byte_order = ">" if self.is_big_endian else "<"
        dtype = np.dtype(f"{byte_order}u{self.bits_per_pixel // 8}")
        wide = rgb.astype(np.uint32)
        values = (
            (wide[..., 0] * self.red_max + 127) // 255 << self.red_shift
            | (wide[..., 1] * self.green_max + 127) // 255 << self.green_shift
            | (wide[..., 2] * self.blue_max + 127) // 255 << self.blue_shift
        )
        packed: npt.NDArray[np.unsignedinteger[npt.NBitBase]] = values.astype(dtype)
        return packed.view(np.uint8).reshape(*rgb.shape[:2], -1)

    def encode_compact(self, rgb: UInt8Array) -> UInt8Array:
        """Converts a picture to ZRLE's CPIXELs, which leave out an unused byte (RFC 6143 7.7.5).

        Args:
            rgb: uint8[H, W, 3].

        Returns:
            uint8[H, W, bytes per CPIXEL].
        """
        pixels = self.encode(rgb)
        if self.has_byte_channels and self.depth <= 24:
            used = sorted(self.channel_bytes())
            pixels = pixels[..., used[0] : used[-1] + 1]
        return pixels


RGBX = PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 16)
"""R, G, B and an unused byte, in this order: what raygym keeps, so that Raw is a plain copy."""
