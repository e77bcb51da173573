"""Numpy arrays as raygym.v1 sends them: little-endian, C order, inline or in shared memory."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.proto import raygym_v1_pb2 as pb

MAX_DIMENSIONS = 32
MAX_ELEMENTS = 2**36
"""Most elements of one array, an axis of length 0 counted as 1."""

_UNITS = "Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as"
_DTYPE_NAME = re.compile(
    r"[<|](?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[SU][1-9]\d{0,8}"
    rf"|[mM]8(?:\[\d{{0,9}}(?:{_UNITS})\])?)"
)


@lru_cache(maxsize=256)
def wire_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the little-endian form of a dtype.

    Raises:
        ConfigError: It has none on the wire: object, structured, void, of no size.
    """
    is_plain = dtype.kind in "biufcSUmM" and dtype.itemsize > 0
    little = dtype.newbyteorder("<") if is_plain else dtype
    if not is_plain or not _DTYPE_NAME.fullmatch(little.str):
        raise ConfigError(
            f"arrays of dtype {dtype} cannot be sent; booleans, numbers, dates and fixed-width "
            "strings can"
        )
    return little


@lru_cache(maxsize=256)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Returns the wire's name of a dtype, such as ``<f4``.

    Raises:
        ConfigError: It has none.
    """
    return str(wire_dtype(dtype).str)


@lru_cache(maxsize=256)
def dtype_from_name(name: str) -> np.dtype[Any]:
    """Returns the dtype of a wire name.

    Raises:
        RemoteProtocolError: There is no such dtype here.
    """
    if not _DTYPE_NAME.fullmatch(name):
        raise RemoteProtocolError(f"array of dtype {name[:40]!r}: there is no such dtype")
    try:
        return np.dtype(name)
    except (TypeError, ValueError) as error:
        raise RemoteProtocolError(f"array of dtype {name!r}: not on this machine") from error


def array_to_message(array: npt.ArrayLike) -> pb.Array:
    """Copies an array, or a scalar as an array of shape [], into a message.

    Raises:
        ConfigError: Its dtype has no name on the wire.
    """
    plain = np.asarray(array)
    little = wire_dtype(plain.dtype)
    if little is not plain.dtype:
        plain = plain.astype(little, copy=False)
    return pb.Array(dtype=dtype_name(plain.dtype), shape=plain.shape, data=plain.tobytes())


def array_from_message(message: pb.Array, memory: memoryview | None = None) -> npt.NDArray[Any]:
    """Returns the array of a message, as a read-only view of its bytes.

    Args:
        message: What came.
        memory: The shared memory that an ``offset`` points into, if there is any.

    Raises:
        RemoteProtocolError: The dtype is unknown, or the bytes do not make up the shape.
    """
    dtype = dtype_from_name(message.dtype)
    return view_bytes(message, dtype, tuple(message.shape), memory)


def view_bytes(
    message: pb.Array, dtype: np.dtype[Any], shape: Sequence[int], memory: memoryview | None
) -> npt.NDArray[Any]:
    """Views the bytes of a message as an array of ``dtype`` and ``shape``, read-only.

    Raises:
        RemoteProtocolError: The bytes are too few or too many, or are not where it says.
    """
    count = math.prod(shape)
    if (
        len(shape) > MAX_DIMENSIONS
        or count > MAX_ELEMENTS
        or (count == 0 and math.prod(size or 1 for size in shape) > MAX_ELEMENTS)
    ):
        raise RemoteProtocolError(
            f"array of shape {list(shape)[:MAX_DIMENSIONS]}: more than {MAX_DIMENSIONS} axes or "
            f"{MAX_ELEMENTS} elements"
        )
    size_bytes = count * dtype.itemsize
    if message.HasField("offset"):
        return _view_memory(message, dtype, shape, size_bytes, memory)
    data = message.data
    if len(data) != size_bytes:
        raise RemoteProtocolError(
            f"array {dtype.str}{list(shape)}: {len(data)} bytes came, {size_bytes} expected"
        )
    if count == 0:
        return _empty(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape)


def _empty(shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.empty(shape, dtype)
    array.flags.writeable = False
    return array


def _view_memory(
    message: pb.Array,
    dtype: np.dtype[Any],
    shape: Sequence[int],
    size_bytes: int,
    memory: memoryview | None,
) -> npt.NDArray[Any]:
    offset = message.offset
    held = 0 if memory is None else memory.nbytes
    if memory is None or message.data or offset + size_bytes > held:
        raise RemoteProtocolError(
            f"array {dtype.str}{list(shape)} at offset {offset} of a shared memory of {held} "
            f"bytes, with {len(message.data)} bytes inline: it cannot be there"
        )
    if size_bytes == 0:
        return _empty(shape, dtype)
    flat: npt.NDArray[Any] = np.frombuffer(
        memory.toreadonly(), dtype, size_bytes // dtype.itemsize, offset
    )
    return flat.reshape(shape)
