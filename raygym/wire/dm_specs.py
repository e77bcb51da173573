"""The TensorSpecs of dm_env_rpc v1 and the spaces that they stand for."""

from __future__ import annotations

import math
import string
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from raygym.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from raygym.wire.arrays import MAX_DIMENSIONS
from raygym.wire.dm_tensors import (
    DTYPES,
    PACKED_FIELDS,
    VARINT_FIELDS,
    fill_payload,
    read_payload,
    tensor_dtype,
    tensor_from_message,
    tensor_to_message,
)
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb
from raygym.wire.spaces import MAX_SPACE_ELEMENTS

ACTION = "action"
OBSERVATION = "observation"
REWARD = "reward"
RENDERING = "rendering"

MAX_TEXT_LENGTH = 2**16
TEXT_CHARACTERS = string.printable + "".join(map(chr, range(0xA1, 0x180)))
"""What texts of a peer are said to be made of; dm_env_rpc does not tell."""

_Space: TypeAlias = gymnasium.Space[Any]
_Bound: TypeAlias = npt.NDArray[Any]

_FIELDS = PACKED_FIELDS | VARINT_FIELDS
_TYPES: dict[np.dtype[Any], pb.DataType] = {
    np.dtype(np.float32): pb.FLOAT,
    np.dtype(np.float64): pb.DOUBLE,
    np.dtype(np.int8): pb.INT8,
    np.dtype(np.int32): pb.INT32,
    np.dtype(np.int64): pb.INT64,
    np.dtype(np.uint8): pb.UINT8,
    np.dtype(np.uint32): pb.UINT32,
    np.dtype(np.uint64): pb.UINT64,
    np.dtype(np.bool_): pb.BOOL,
}
_DTYPES: dict[int, np.dtype[Any]] = {int(kind): dtype for dtype, kind in _TYPES.items()}


def spec_to_message(name: str, leaf: _Space) -> pb.TensorSpec:
    """Describes a leaf space as a tensor; bounds that are the same everywhere are one number.

    Raises:
        ConfigError: dm_env_rpc cannot say it.
    """
    if isinstance(leaf, spaces.Text):
        return pb.TensorSpec(name=name, dtype=pb.STRING)
    spec = pb.TensorSpec(name=name)
    dtype = tensor_dtype(np.dtype(leaf.dtype))
    spec.dtype = _TYPES[dtype]
    spec.shape[:] = leaf.shape or ()
    if dtype.kind != "b":
        low, high = _space_bounds(leaf, name)
        least, most = _limits(dtype)
        _fill_bound(spec.min, low, least, dtype, name)
        _fill_bound(spec.max, high, most, dtype, name)
    return spec


def _space_bounds(leaf: _Space, name: str) -> tuple[Any, Any]:
    if isinstance(leaf, spaces.Box):
        return leaf.low, leaf.high
    if isinstance(leaf, spaces.Discrete):
        return int(leaf.start), int(leaf.start) + int(leaf.n) - 1
    if isinstance(leaf, spaces.MultiDiscrete):
        return leaf.start, leaf.start + (leaf.nvec - 1)
    if isinstance(leaf, spaces.MultiBinary):
        return 0, 1
    raise ConfigError(
        f"{name}: dm_env_rpc cannot carry a {type(leaf).__name__} space; Box, Discrete, "
        "MultiDiscrete, MultiBinary and Text it can, and Dict and Tuple of these"
    )


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _fill_bound(
    target: pb.TensorSpec.Value, bound: Any, limit: Any, dtype: np.dtype[Any], name: str
) -> None:
    try:
        values = np.asarray(bound).astype(dtype) if np.ndim(bound) else np.array(bound, dtype)
    except OverflowError as error:
        raise ConfigError(f"{name}: the bound {bound} does not fit {dtype}") from error
    if values.size == 0:
        return
    if (values == values.flat[0]).all():
        values = values.reshape(-1)[:1]
        # Unsigned bounds are always said: peers tell pictures by them.
        if dtype.kind != "u" and values[0] == limit:
            return
    fill_payload(target, values)


def space_from_spec(spec: pb.TensorSpec) -> _Space:
    """Builds the space of a tensor.

    ==========================================================  =================
    integer, shape [], both bounds                              Discrete
    int32 or int64, from 0 everywhere, with an upper bound      MultiDiscrete
    int8, from 0 to 1                                           MultiBinary
    bool, shape []                                              Discrete(2)
    string, shape []                                            Text
    any other number or bool                                    Box
    ==========================================================  =================

    Raises:
        RemoteProtocolError: It describes no space, or one beyond the limits.
    """
    shape = tuple(spec.shape)
    if spec.dtype == pb.STRING and not shape:
        return spaces.Text(MAX_TEXT_LENGTH, min_length=0, charset=TEXT_CHARACTERS)
    dtype = _DTYPES.get(spec.dtype)
    if dtype is None:
        raise _refusal(spec, "raygym reads numbers, booleans and single strings")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise _refusal(spec, "a space has a fixed shape")
    if math.prod(size or 1 for size in shape) > MAX_SPACE_ELEMENTS:
        raise _refusal(spec, f"more than {MAX_SPACE_ELEMENTS} numbers")
    if dtype.kind == "b":
        return _bool_space(shape)
    low, high = _read_bound(spec, spec.min, dtype), _read_bound(spec, spec.max, dtype)
    if low is not None and high is not None and (low > high).any():
        raise _refusal(spec, "min is above max")
    if dtype.kind in "iu" and low is not None and high is not None:
        space = _finite_space(low, high, dtype, shape)
        if space is not None:
            return space
    return _box(low, high, dtype, shape)


def _refusal(spec: pb.TensorSpec, reason: str) -> RemoteProtocolError:
    known = spec.dtype in pb.DataType.values()
    kind = pb.DataType.Name(spec.dtype) if known else spec.dtype
    return RemoteProtocolError(
        f"TensorSpec {spec.name[:80]!r} {kind}{list(spec.shape)[:MAX_DIMENSIONS]}: {reason}"
    )


def _bool_space(shape: tuple[int, ...]) -> _Space:
    kind: Any = np.bool_
    return spaces.Box(0, 1, shape, dtype=kind) if shape else spaces.Discrete(2)


def _read_bound(
    spec: pb.TensorSpec, value: pb.TensorSpec.Value, dtype: np.dtype[Any]
) -> _Bound | None:
    name = value.WhichOneof("payload")
    if name is None:
        return None
    if name != _FIELDS[dtype]:
        raise _refusal(spec, f"its bounds are {name}")
    flat = read_payload(value, name).astype(DTYPES[name], copy=False)
    if flat.size not in (1, math.prod(spec.shape)) or flat.size == 0:
        raise _refusal(spec, f"a bound has {flat.size} elements")
    if dtype.kind == "f" and np.isnan(flat).any():
        raise _refusal(spec, "a bound is NaN")
    return flat.reshape(()) if flat.size == 1 else flat.reshape(tuple(spec.shape))


def _finite_space(
    low: _Bound, high: _Bound, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> _Space | None:
    kind: Any = dtype.type
    greatest = int(np.iinfo(dtype).max)
    if not shape:
        count = int(high) - int(low) + 1
        is_small = count <= greatest and int(high) < greatest
        return spaces.Discrete(count, start=int(low), dtype=kind) if is_small else None
    if (low != 0).any() or 0 in shape or high.max() == greatest:
        return None
    if dtype == np.int8 and (high == 1).all():
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if dtype in (np.int32, np.int64):
        return spaces.MultiDiscrete(np.broadcast_to(high, shape) + 1, dtype=kind)
    return None


def _box(
    low: _Bound | None, high: _Bound | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> spaces.Box:
    least, most = _limits(dtype)
    lowest = np.full(shape, least if low is None else low, dtype)
    greatest = np.full(shape, most if high is None else high, dtype)
    kind: Any = dtype.type
    return spaces.Box(lowest, greatest, shape, dtype=kind)


def tensor_for_spec(spec: pb.TensorSpec, value: Any) -> pb.Tensor:
    """Turns a value of ``space_from_spec(spec)`` into the tensor that the spec asks for.

    Raises:
        LocalProtocolError: It has another shape, or does not fit the dtype.
    """
    if spec.dtype == pb.STRING:
        return tensor_to_message(str(value))
    dtype = _DTYPES[spec.dtype]
    array = np.asarray(value)
    if array.shape != tuple(spec.shape) or array.dtype.kind not in "biuf":
        raise LocalProtocolError(
            f"{spec.name}: a value {array.dtype}{list(array.shape)} where the peer expects "
            f"{dtype}{list(spec.shape)}"
        )
    cast = array.astype(dtype)
    if dtype.kind != "f" and not (cast == array).all():
        raise LocalProtocolError(f"{spec.name}: {array.dtype} values that {dtype} does not hold")
    return tensor_to_message(cast)


def value_for_space(leaf: _Space, tensor: pb.Tensor) -> Any:
    """Reads a value of a leaf space from the tensor that ``spec_to_message(leaf)`` asks for.

    Bounds are not looked at; arrays are read-only.

    Raises:
        RemoteProtocolError: It has another shape or dtype.
    """
    array = tensor_from_message(tensor)
    is_text = isinstance(leaf, spaces.Text)
    if is_text and array.dtype.kind == "O" and array.shape == ():
        return array[()]
    if is_text or array.dtype.kind == "O":
        raise RemoteProtocolError(f"a tensor {array.dtype}{list(array.shape)} came for {leaf}")
    dtype = np.dtype(leaf.dtype)
    wide = tensor_dtype(dtype)
    is_bool_choice = array.dtype.kind == "b" and isinstance(leaf, spaces.Discrete)
    if array.shape != (leaf.shape or ()) or (array.dtype != wide and not is_bool_choice):
        raise RemoteProtocolError(
            f"a tensor {array.dtype}{list(array.shape)} came; {leaf} takes "
            f"{wide}{list(leaf.shape or ())}"
        )
    cast = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and dtype != array.dtype and not (cast == array).all():
        raise RemoteProtocolError(f"a tensor of {array.dtype} with numbers beyond {leaf}")
    return cast[()] if isinstance(leaf, spaces.Discrete) else cast
