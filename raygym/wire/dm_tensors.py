"""The tensors of dm_env_rpc v1, byte for byte, without a Python loop over floats.

A packed ``repeated float`` has the same bytes as a ``bytes`` field; the mirror .proto declares
floats, doubles and booleans so, and numpy reads them as they lie there. Integers of 32 and 64
bits are varints and go through protobuf.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.unknown_fields import UnknownFieldSet

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.arrays import MAX_DIMENSIONS
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb

MAX_BROADCAST_ELEMENTS = 2**25
"""Most elements that one element on the wire may stand for."""

_Payload: TypeAlias = pb.Tensor | pb.TensorSpec.Value

PACKED_FIELDS: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): "floats",
    np.dtype(np.float64): "doubles",
    np.dtype(np.int8): "int8s",
    np.dtype(np.uint8): "uint8s",
    np.dtype(np.bool_): "bools",
}
VARINT_FIELDS: dict[np.dtype[Any], str] = {
    np.dtype(np.int32): "int32s",
    np.dtype(np.int64): "int64s",
    np.dtype(np.uint32): "uint32s",
    np.dtype(np.uint64): "uint64s",
}
DTYPES = {name: dtype for dtype, name in (PACKED_FIELDS | VARINT_FIELDS).items()}

_WIDER: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.int16): np.dtype(np.int32),
    np.dtype(np.uint16): np.dtype(np.int32),
}
_FIXED_WIDTHS = {"floats": (5, "<u4"), "doubles": (1, "<u8"), "bools": (0, "<u8")}


def tensor_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the dtype in which dm_env_rpc carries arrays of ``dtype``: itself, or a wider one.

    Raises:
        ConfigError: It has none that holds every value.
    """
    native = dtype.newbyteorder("=")
    wide = _WIDER.get(native, native)
    if wide not in PACKED_FIELDS and wide not in VARINT_FIELDS:
        raise ConfigError(
            f"dm_env_rpc has no tensors of dtype {dtype}; it has booleans, integers, float32, "
            "float64 and strings"
        )
    return wide


def tensor_to_message(array_or_strings: Any) -> pb.Tensor:
    """Turns an array, a number, a string or an array of strings into a tensor.

    Float16, int16 and uint16 are sent as float32 and int32.

    Raises:
        ConfigError: dm_env_rpc has no such tensor.
    """
    array = np.asarray(array_or_strings)
    message = pb.Tensor()
    message.shape[:] = array.shape
    if array.dtype.kind in "UO":
        _fill_strings(message, array)
    else:
        fill_payload(message, array)
    return message


def _fill_strings(message: pb.Tensor, array: npt.NDArray[Any]) -> None:
    texts = array.ravel().tolist()
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("dm_env_rpc has no tensors of Python objects other than strings")
    message.strings.SetInParent()
    try:
        message.strings.array.extend(texts)
    except (UnicodeError, ValueError) as error:
        raise ConfigError(f"a string of a tensor is no valid Unicode: {error}") from error


def fill_payload(message: _Payload, array: npt.NDArray[Any]) -> None:
    """Writes the numbers of an array into a message with a payload.

    Raises:
        ConfigError: dm_env_rpc has no such dtype.
    """
    dtype = tensor_dtype(array.dtype)
    name = PACKED_FIELDS.get(dtype)
    if name is None:
        payload = getattr(message, VARINT_FIELDS[dtype])
        payload.SetInParent()
        payload.array.extend(array.ravel().tolist())
    elif isinstance(message, pb.TensorSpec.Value) and name == "bools":
        raise ConfigError("dm_env_rpc has no bounds for booleans")
    else:
        wire = array.astype(dtype.newbyteorder("<"), copy=False)
        getattr(message, name).array = wire.tobytes()


def tensor_from_message(message: pb.Tensor) -> npt.NDArray[Any]:
    """Returns the array of a tensor, read-only; strings as an object array.

    One element stands for as many as the shape asks for; one axis may be -1.

    Raises:
        RemoteProtocolError: There is no payload, or it does not make up the shape.
    """
    name = message.WhichOneof("payload")
    if name == "strings":
        flat = np.array(list(message.strings.array), dtype=object)
    else:
        flat = read_payload(message, name)
    array = _reshape(flat, tuple(message.shape))
    array.flags.writeable = False
    return array


def read_payload(message: _Payload, name: str | None) -> npt.NDArray[Any]:
    """Returns the numbers of a message's payload as a flat array.

    Args:
        message: A tensor or a bound.
        name: The payload's field, as ``WhichOneof("payload")`` says.

    Raises:
        RemoteProtocolError: There is none, or one that is no numbers.
    """
    dtype = DTYPES.get(name or "")
    if name is None or dtype is None:
        raise RemoteProtocolError(f"a tensor with payload {name!r}; raygym reads numbers and texts")
    payload = getattr(message, name)
    if dtype in VARINT_FIELDS:
        return np.fromiter(payload.array, dtype, len(payload.array))
    data = payload.array
    if not data and name in _FIXED_WIDTHS:
        return _read_unpacked(payload, name)
    if len(data) % dtype.itemsize:
        raise RemoteProtocolError(f"a tensor of {name} with {len(data)} bytes: the last is cut off")
    if name == "bools":
        return _read_bools(np.frombuffer(data, np.uint8))
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _read_unpacked(payload: pb.Packed, name: str) -> npt.NDArray[Any]:
    """Reads a field whose sender did not pack it, as proto3 allows."""
    wire_type, width = _FIXED_WIDTHS[name]
    numbers = [
        field.data
        for field in UnknownFieldSet(payload)  # type: ignore[attr-defined]
        if field.field_number == 1 and field.wire_type == wire_type
    ]
    raw = np.array(numbers, width)
    return raw != 0 if name == "bools" else raw.view(DTYPES[name].newbyteorder("<"))


def _read_bools(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if data.size == 0 or data.max() <= 1:
        return data.view(np.bool_)
    is_last = data < 0x80
    if not is_last[-1]:
        raise RemoteProtocolError("a tensor of bools whose last varint is cut off")
    starts = np.concatenate(([0], np.nonzero(is_last)[0][:-1] + 1))
    return np.logical_or.reduceat((data & 0x7F) != 0, starts)


def _reshape(flat: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    known = math.prod(size for size in shape if size >= 0)
    unknown = sum(size < 0 for size in shape)
    if len(shape) > MAX_DIMENSIONS or unknown > 1 or min(shape, default=0) < -1:
        raise RemoteProtocolError(
            f"a tensor of shape {list(shape)[:MAX_DIMENSIONS]}; at most {MAX_DIMENSIONS} axes can "
            "be, and one of them -1"
        )
    if flat.size == 1 and shape and known <= MAX_BROADCAST_ELEMENTS:
        return np.broadcast_to(flat, [1 if size < 0 else size for size in shape])
    if flat.size == known and not unknown:
        return _shaped(flat, shape)
    if unknown and known and flat.size % known == 0:
        return _shaped(flat, [flat.size // known if size < 0 else size for size in shape])
    raise RemoteProtocolError(f"a tensor of shape {list(shape)} with {flat.size} elements")


def _shaped(flat: npt.NDArray[Any], shape: tuple[int, ...] | list[int]) -> npt.NDArray[Any]:
    try:
        return flat.reshape(shape)
    except ValueError as error:
        raise RemoteProtocolError(f"a tensor of shape {list(shape)}: {error}") from error
