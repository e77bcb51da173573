"""Values of spaces as flat lists of leaves, stacked over environments, and as messages.

A leaf is one non-composite part of a space, in the space's own order, depth first. Stacked, its
first axis is the environment: ``dtype[N, ...]``, or a list of N strings for a Text space.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from raygym.errors import LocalProtocolError, RemoteProtocolError
from raygym.wire.arrays import (
    array_from_message,
    array_to_message,
    dtype_from_name,
    dtype_name,
    view_bytes,
    wire_dtype,
)
from raygym.wire.membership import are_members, explain
from raygym.wire.proto import raygym_v1_pb2 as pb

__all__ = [
    "ALIGNMENT_BYTES",
    "LeafValue",
    "are_members",
    "array_from_message",
    "array_to_message",
    "explain",
    "leaf_spaces",
    "leaves_from_messages",
    "leaves_to_messages",
    "shared_memory_bytes",
    "single_from_messages",
    "single_to_messages",
    "stack_values",
    "unstack_values",
]

ALIGNMENT_BYTES = 64
"""Where arrays in shared memory begin: at a multiple of this."""

LeafValue: TypeAlias = npt.NDArray[Any] | list[str]
"""A stacked leaf: an array whose first axis is the environment, or as many strings."""

_Space: TypeAlias = gymnasium.Space[Any]


def leaf_spaces(space: _Space) -> list[_Space]:
    """Returns the non-composite parts of a space, depth first; of a leaf, itself."""
    if isinstance(space, spaces.Dict):
        return [leaf for part in space.spaces.values() for leaf in leaf_spaces(part)]
    if isinstance(space, spaces.Tuple):
        return [leaf for part in space.spaces for leaf in leaf_spaces(part)]
    return [space]


def stack_values(space: _Space, values: Sequence[Any]) -> list[LeafValue]:
    """Stacks N values of a space into its leaves.

    Numbers are cast to the space's dtype where nothing but precision is lost; bounds are not
    looked at. Arrays may share memory with a lone value.

    Raises:
        LocalProtocolError: A value has other parts, another shape or another kind of dtype than
            the space.
    """
    leaves: list[LeafValue] = []
    _stack(space, values, "value", leaves)
    return leaves


def _stack(space: _Space, values: Sequence[Any], where: str, leaves: list[LeafValue]) -> None:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            _stack(part, _parts(values, key, where), f"{where}[{key!r}]", leaves)
    elif isinstance(space, spaces.Tuple):
        for value in values:
            if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
                raise LocalProtocolError(
                    f"{where} is no tuple of {len(space.spaces)} parts, as {space} is"
                )
        for index, part in enumerate(space.spaces):
            _stack(part, _parts(values, index, where), f"{where}[{index}]", leaves)
    elif isinstance(space, spaces.Text):
        leaves.append(_stack_texts(values, where))
    elif isinstance(space, spaces.Discrete):
        leaves.append(_stack_integers(space, values, where))
    else:
        leaves.append(_stack_arrays(space, values, where))


def _parts(values: Sequence[Any], key: str | int, where: str) -> list[Any]:
    try:
        return [value[key] for value in values]
    except (KeyError, IndexError, TypeError) as error:
        raise LocalProtocolError(f"{where} has no part {key!r}") from error


def _stack_texts(values: Sequence[Any], where: str) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise LocalProtocolError(f"{where} is a {type(value).__name__}, not a string")
    return list(values)


def _stack_integers(
    space: spaces.Discrete[Any], values: Sequence[Any], where: str
) -> npt.NDArray[Any]:
    try:
        return np.array([operator.index(value) for value in values], space.dtype)
    except (TypeError, OverflowError) as error:
        raise LocalProtocolError(f"{where} is no integer of {space}: {error}") from error


def _stack_arrays(space: _Space, values: Sequence[Any], where: str) -> npt.NDArray[Any]:
    shape = space.shape or ()
    if len(values) == 1:
        return _as_array(space, values[0], where).reshape((1, *shape))
    dtype = space.dtype
    is_exact = all(
        type(value) is np.ndarray and value.shape == shape and value.dtype == dtype
        for value in values
    )
    if is_exact and shape and values:
        return np.concatenate(values).reshape((len(values), *shape))
    stacked: npt.NDArray[Any] = np.empty((len(values), *shape), dtype)
    for index, value in enumerate(values):
        stacked[index] = _as_array(space, value, where)
    return stacked


def _as_array(space: _Space, value: Any, where: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise LocalProtocolError(f"{where} is no array of {space}: {error}") from error
    if array.shape != space.shape:
        raise LocalProtocolError(
            f"{where} has shape {list(array.shape)}, {space} has {list(space.shape or ())}"
        )
    dtype: np.dtype[Any] = space.dtype  # type: ignore[assignment]
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "biuf" and np.can_cast(array.dtype, dtype, "same_kind"):
        return array.astype(dtype)
    cast = array.astype(dtype) if array.dtype.kind in "biu" else None
    if cast is None or not (cast == array).all():
        raise LocalProtocolError(f"{where} of dtype {array.dtype} is not of {space}'s, {dtype}")
    return cast


def unstack_values(space: _Space, leaves: Sequence[LeafValue], count: int) -> list[Any]:
    """Cuts stacked leaves into N values of the space; arrays are views of the leaves.

    Args:
        space: The space of one value.
        leaves: As ``stack_values`` makes them.
        count: N.

    Returns:
        N values: dicts, tuples, strings, arrays, and numpy integers for Discrete.
    """
    return _unstack(space, iter(leaves), count)


def _unstack(space: _Space, leaves: Iterator[LeafValue], count: int) -> list[Any]:
    if isinstance(space, spaces.Dict):
        parts = [_unstack(part, leaves, count) for part in space.spaces.values()]
        keys = list(space.spaces)
        return [
            dict(zip(keys, (part[index] for part in parts), strict=True)) for index in range(count)
        ]
    if isinstance(space, spaces.Tuple):
        parts = [_unstack(part, leaves, count) for part in space.spaces]
        return [tuple(part[index] for part in parts) for index in range(count)]
    leaf = next(leaves)
    if isinstance(leaf, list) or space.shape or isinstance(space, spaces.Discrete):
        return [leaf[index] for index in range(count)]
    return [leaf[index, ...] for index in range(count)]


def shared_memory_bytes(space: _Space, count: int) -> int:
    """Returns how much shared memory holds every array leaf of ``count`` values, in bytes."""
    total = 0
    for leaf in leaf_spaces(space):
        if not isinstance(leaf, spaces.Text):
            size = int(np.prod(leaf.shape or (), dtype=np.int64)) * np.dtype(leaf.dtype).itemsize
            total += _aligned(size * count)
    return total


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def leaves_to_messages(
    leaves: Sequence[LeafValue], memory: memoryview | None = None
) -> list[pb.Leaf]:
    """Turns leaves into messages.

    Args:
        leaves: Arrays and lists of strings.
        memory: Shared memory, flat bytes. Arrays are written into it, one after the other, as
            far as they fit; the others go inline.

    Raises:
        LocalProtocolError: A text is no valid Unicode.
    """
    messages = []
    offset = 0
    for leaf in leaves:
        if isinstance(leaf, list):
            messages.append(_texts_to_message(leaf))
        elif memory is not None and leaf.nbytes and offset + leaf.nbytes <= memory.nbytes:
            messages.append(pb.Leaf(array=_write(leaf, memory, offset)))
            offset = _aligned(offset + leaf.nbytes)
        else:
            messages.append(pb.Leaf(array=array_to_message(leaf)))
    return messages


def _texts_to_message(texts: list[str]) -> pb.Leaf:
    try:
        return pb.Leaf(texts=pb.Texts(texts=texts))
    except (UnicodeError, ValueError) as error:
        raise LocalProtocolError(f"a text is no valid Unicode: {error}") from error


def _write(array: npt.NDArray[Any], memory: memoryview, offset: int) -> pb.Array:
    target = np.frombuffer(memory, wire_dtype(array.dtype), array.size, offset)
    target.reshape(array.shape)[...] = array
    return pb.Array(dtype=dtype_name(array.dtype), shape=array.shape, offset=offset)


def leaves_from_messages(
    messages: Sequence[pb.Leaf],
    leaf_spaces: Sequence[_Space],
    count: int,
    memory: memoryview | None = None,
) -> list[LeafValue]:
    """Reads stacked leaves; arrays are read-only views.

    Args:
        messages: One for each leaf.
        leaf_spaces: The space of each leaf.
        count: How many values are stacked.
        memory: The shared memory that offsets point into, if there is any.

    Raises:
        RemoteProtocolError: The number of leaves, a dtype, a shape or a place in the memory is
            not what the spaces ask for. Bounds are not looked at.
    """
    return _read_leaves(messages, leaf_spaces, (count,), memory)


def _read_leaves(
    messages: Sequence[pb.Leaf],
    leaf_spaces: Sequence[_Space],
    stack: tuple[int, ...],
    memory: memoryview | None,
) -> list[LeafValue]:
    if len(messages) != len(leaf_spaces):
        raise RemoteProtocolError(f"{len(messages)} leaves came, {len(leaf_spaces)} expected")
    leaves: list[LeafValue] = []
    for message, space in zip(messages, leaf_spaces, strict=True):
        if isinstance(space, spaces.Text):
            leaves.append(_read_texts(message, space, stack[0] if stack else 1))
        else:
            leaves.append(_read_array(message.array, space, stack, memory))
    return leaves


def _read_texts(message: pb.Leaf, space: spaces.Text, count: int) -> list[str]:
    texts = list(message.texts.texts)
    if len(texts) != count:
        raise RemoteProtocolError(f"{len(texts)} texts of {space} came, {count} expected")
    return texts


def _read_array(
    array: pb.Array, space: _Space, stack: tuple[int, ...], memory: memoryview | None
) -> npt.NDArray[Any]:
    dtype: np.dtype[Any] = space.dtype  # type: ignore[assignment]
    shape = stack + (space.shape or ())
    if tuple(array.shape) != shape or array.dtype != dtype_name(dtype):
        _refuse_array(array, space, shape)
    return view_bytes(array, wire_dtype(dtype), shape, memory)


def _refuse_array(array: pb.Array, space: _Space, shape: tuple[int, ...]) -> None:
    seen = dtype_from_name(array.dtype)
    if seen != wire_dtype(space.dtype) or tuple(array.shape) != shape:
        raise RemoteProtocolError(
            f"an array {seen.str}{list(array.shape)[:32]} came, {space} stacked is "
            f"{dtype_name(space.dtype)}{list(shape)}"
        )


def single_to_messages(space: _Space, value: Any) -> list[pb.Leaf]:
    """Turns one value into messages of its leaves, not stacked, all inline (``Final``).

    Raises:
        LocalProtocolError: It is no value of the space.
    """
    leaves = stack_values(space, [value])
    return leaves_to_messages([leaf if isinstance(leaf, list) else leaf[0] for leaf in leaves])


def single_from_messages(
    space: _Space, messages: Sequence[pb.Leaf], memory: memoryview | None = None
) -> Any:
    """Reads one value from its leaves, not stacked; arrays are read-only views.

    Raises:
        RemoteProtocolError: As for ``leaves_from_messages``.
    """
    leaves = _read_leaves(messages, leaf_spaces(space), (), memory)
    stacked = [leaf if isinstance(leaf, list) else leaf[np.newaxis] for leaf in leaves]
    return unstack_values(space, stacked, 1)[0]
