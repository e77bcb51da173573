"""Gymnasium spaces as raygym.v1 messages and back."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.arrays import (
    MAX_DIMENSIONS,
    array_from_message,
    array_to_message,
    dtype_from_name,
    dtype_name,
)
from raygym.wire.proto import raygym_v1_pb2 as pb

MAX_SPACES = 4096
"""Most spaces within one, itself included."""

MAX_SPACE_DEPTH = 24
"""Most Dicts and Tuples within each other."""

MAX_SPACE_ELEMENTS = 2**25
"""Most numbers of one value, all leaves together: a little more than a 4K picture."""

MAX_TEXT_LENGTH = 2**32 - 1

_REJECTIONS = (ValueError, TypeError, AssertionError, OverflowError)


class _Budget:
    """What is left of the limits while one space is walked through."""

    def __init__(self, error: type[ConfigError] | type[RemoteProtocolError]) -> None:
        self._error = error
        self._spaces = MAX_SPACES
        self._elements = MAX_SPACE_ELEMENTS

    def enter(self, depth: int, where: str) -> None:
        """Counts one more space.

        Raises:
            ConfigError, RemoteProtocolError: There are too many, or they nest too deep.
        """
        self._spaces -= 1
        if self._spaces < 0 or depth > MAX_SPACE_DEPTH:
            raise self._error(
                f"{where}: more than {MAX_SPACES} spaces, or more than {MAX_SPACE_DEPTH} within "
                "each other"
            )

    def take(self, shape: tuple[int, ...], where: str) -> tuple[int, ...]:
        """Counts the numbers of one leaf; returns its shape.

        Raises:
            ConfigError, RemoteProtocolError: They are too many.
        """
        self._elements -= math.prod(size or 1 for size in shape)
        if self._elements < 0 or len(shape) > MAX_DIMENSIONS:
            raise self._error(
                f"{where}: shape {list(shape)[:MAX_DIMENSIONS]} makes more than "
                f"{MAX_SPACE_ELEMENTS} numbers a value, or more than {MAX_DIMENSIONS} axes"
            )
        return shape


def space_to_message(space: gymnasium.Space[Any]) -> pb.Space:
    """Describes a space.

    Raises:
        ConfigError: It, or a part of it, is of a kind that the protocol does not have, or
            beyond its limits. The message says where the part is.
    """
    message = pb.Space()
    _fill_space(message, space, "space", 0, _Budget(ConfigError))
    return message


def _fill_space(
    message: pb.Space, space: gymnasium.Space[Any], where: str, depth: int, budget: _Budget
) -> None:
    budget.enter(depth, where)
    if isinstance(space, spaces.Dict):
        message.dict.SetInParent()
        for key, part in space.spaces.items():
            if not isinstance(key, str):
                raise ConfigError(f"{where}: the key {key!r} is not a string")
            _set_text(message.dict.keys.append, key, f"{where}[{key!r}]")
            _fill_space(message.dict.spaces.add(), part, f"{where}[{key!r}]", depth + 1, budget)
    elif isinstance(space, spaces.Tuple):
        message.tuple.SetInParent()
        for index, part in enumerate(space.spaces):
            _fill_space(message.tuple.spaces.add(), part, f"{where}[{index}]", depth + 1, budget)
    else:
        _fill_leaf(message, space, where, budget)


def _fill_leaf(message: pb.Space, space: gymnasium.Space[Any], where: str, budget: _Budget) -> None:
    if isinstance(space, spaces.Box):
        budget.take(space.shape, where)
        message.box.dtype = dtype_name(space.dtype)
        message.box.shape[:] = space.shape
        message.box.low.CopyFrom(_bound(space.low, space.bounded_below, -np.inf))
        message.box.high.CopyFrom(_bound(space.high, space.bounded_above, np.inf))
    elif isinstance(space, spaces.Discrete):
        if not -(2**63) <= int(space.start) < 2**63:
            raise ConfigError(f"{where}: {space} starts beyond 64 bits")
        message.discrete.start = int(space.start)
        message.discrete.n = int(space.n)
        message.discrete.dtype = dtype_name(space.dtype)
    elif isinstance(space, spaces.MultiDiscrete):
        budget.take(space.shape, where)
        message.multi_discrete.nvec.CopyFrom(array_to_message(space.nvec))
        message.multi_discrete.start.CopyFrom(array_to_message(space.start))
        message.multi_discrete.dtype = dtype_name(space.dtype)
    elif isinstance(space, spaces.MultiBinary):
        message.multi_binary.shape[:] = budget.take(space.shape, where)
    elif isinstance(space, spaces.Text):
        _fill_text(message.text, space, where)
    else:
        raise ConfigError(
            f"{where}: a {type(space).__name__} space cannot be sent; Box, Discrete, "
            "MultiDiscrete, MultiBinary, Text, Dict and Tuple can"
        )


def _fill_text(message: pb.Text, space: spaces.Text, where: str) -> None:
    if space.max_length > MAX_TEXT_LENGTH:
        raise ConfigError(f"{where}: texts of {space.max_length} characters are too long")
    message.min_length = space.min_length
    message.max_length = space.max_length
    # The order decides what a seeded sample() gives.
    charset = "".join(space.character_list)
    _set_text(lambda text: setattr(message, "charset", text), charset, where)


def _set_text(setter: Any, text: str, where: str) -> None:
    try:
        setter(text)
    except (UnicodeError, ValueError) as error:
        raise ConfigError(f"{where}: {text[:40]!r} is no valid Unicode text") from error


def _bound(
    values: npt.NDArray[Any], is_bounded: npt.NDArray[np.bool_], infinity: float
) -> pb.Array:
    if values.dtype.kind == "i" and values.size and not is_bounded.any():
        return array_to_message(np.float64(infinity))
    if values.size and (values == values.flat[0]).all():
        return array_to_message(values.flat[0])
    return array_to_message(values)


def space_from_message(message: pb.Space) -> gymnasium.Space[Any]:
    """Builds the space that a message describes.

    Raises:
        RemoteProtocolError: It describes none, or one beyond the limits. Nothing large was
            allocated.
    """
    return _read_space(message, "space", 0, _Budget(RemoteProtocolError))


def _read_space(message: pb.Space, where: str, depth: int, budget: _Budget) -> gymnasium.Space[Any]:
    budget.enter(depth, where)
    kind = message.WhichOneof("kind")
    if kind == "dict":
        keys = list(message.dict.keys)
        if len(keys) != len(message.dict.spaces) or len(set(keys)) != len(keys):
            raise RemoteProtocolError(
                f"{where}: a Dict of {len(message.dict.spaces)} spaces came with {len(keys)} keys, "
                f"{len(set(keys))} of them different"
            )
        return spaces.Dict(
            [
                (key, _read_space(part, f"{where}[{key[:40]!r}]", depth + 1, budget))
                for key, part in zip(keys, message.dict.spaces, strict=True)
            ]
        )
    if kind == "tuple":
        return spaces.Tuple(
            _read_space(part, f"{where}[{index}]", depth + 1, budget)
            for index, part in enumerate(message.tuple.spaces)
        )
    try:
        return _read_leaf(message, kind, where, budget)
    except _REJECTIONS as error:
        raise RemoteProtocolError(f"{where}: no {kind} space can be made: {error}") from error


def _read_leaf(
    message: pb.Space, kind: str | None, where: str, budget: _Budget
) -> gymnasium.Space[Any]:
    if kind == "box":
        return _read_box(message.box, where, budget)
    if kind == "discrete":
        discrete = message.discrete
        dtype = _integer_dtype(discrete.dtype, where)
        _check_range(dtype, discrete.start, discrete.n, where)
        return spaces.Discrete(discrete.n, start=discrete.start, dtype=dtype.newbyteorder("=").type)
    if kind == "multi_discrete":
        return _read_multi_discrete(message.multi_discrete, where, budget)
    if kind == "multi_binary":
        shape = budget.take(tuple(message.multi_binary.shape), where)
        # MultiBinary(3) and MultiBinary([3]) differ for Gymnasium; the first is what people write.
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if kind == "text":
        text = message.text
        return spaces.Text(text.max_length, min_length=text.min_length, charset=text.charset)
    raise RemoteProtocolError(f"{where}: a space of a kind unknown here")


def _read_box(message: pb.Box, where: str, budget: _Budget) -> spaces.Box:
    dtype = dtype_from_name(message.dtype)
    if dtype.kind not in "biuf":
        raise RemoteProtocolError(f"{where}: a Box of dtype {dtype.str}; it must be a number's")
    shape = budget.take(tuple(message.shape), where)
    low = _read_bound(message.low, dtype, shape, where)
    high = _read_bound(message.high, dtype, shape, where)
    return spaces.Box(low, high, shape, dtype=dtype.newbyteorder("=").type)


def _read_bound(message: pb.Array, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> Any:
    bound = array_from_message(message)
    if bound.dtype.kind == "f" and bound.shape == () and dtype.kind == "i" and np.isinf(bound):
        return float(bound)
    if bound.dtype != dtype or bound.shape not in ((), shape):
        raise RemoteProtocolError(
            f"{where}: a Box {dtype.str}{list(shape)} came with a bound "
            f"{bound.dtype.str}{list(bound.shape)}"
        )
    # Box looks for infinities, which numpy refuses to do in booleans.
    target = np.dtype(np.int8) if dtype.kind == "b" else dtype.newbyteorder("=")
    return np.array(np.broadcast_to(bound, shape), target)


def _read_multi_discrete(
    message: pb.MultiDiscrete, where: str, budget: _Budget
) -> spaces.MultiDiscrete:
    dtype = _integer_dtype(message.dtype, where)
    shape = budget.take(tuple(message.nvec.shape), where)
    nvec, start = array_from_message(message.nvec), array_from_message(message.start)
    if nvec.dtype != dtype or start.dtype != dtype or start.shape != shape:
        raise RemoteProtocolError(
            f"{where}: a MultiDiscrete {dtype.str} came with nvec {nvec.dtype.str}{list(shape)} "
            f"and start {start.dtype.str}{list(start.shape)}"
        )
    if nvec.size and int(nvec.min()) < 1:
        raise RemoteProtocolError(f"{where}: a MultiDiscrete with a count of {int(nvec.min())}")
    # nvec is positive: only a sum that wraps around can lie below start.
    if (start + (nvec - 1) < start).any():
        raise RemoteProtocolError(f"{where}: a MultiDiscrete beyond its dtype {dtype.str}")
    return spaces.MultiDiscrete(nvec, dtype=dtype.newbyteorder("=").type, start=start)


def _integer_dtype(name: str, where: str) -> np.dtype[Any]:
    dtype = dtype_from_name(name)
    if dtype.kind not in "iu":
        raise RemoteProtocolError(f"{where}: dtype {dtype.str} where only integers make sense")
    return dtype


def _check_range(dtype: np.dtype[Any], start: int, count: int, where: str) -> None:
    limits = np.iinfo(dtype)
    if count < 1 or count > limits.max or start < limits.min or start + count - 1 > limits.max:
        raise RemoteProtocolError(
            f"{where}: a Discrete of {count} from {start} does not fit its dtype {dtype.str}"
        )
