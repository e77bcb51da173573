"""Python values with numpy in them as raygym.v1 messages: info, options, kwargs, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.arrays import array_from_message, array_to_message
from raygym.wire.proto import raygym_v1_pb2 as pb

MAX_DEPTH = 24
"""Most lists and maps within each other; protobuf itself reads no more than about 30."""

REPR_PREFIX = "<repr>"
"""Begins the text that stands for a value of a type that the protocol does not have."""

_LONGEST_REPR = 1000
_LONGEST_BIG_INTEGER = 4000


def value_to_message(value: Any) -> pb.Value:
    """Turns a value into a message; never fails.

    None, bool, int, float, str, bytes, lists, tuples, mappings, numpy arrays and scalars come
    back as they were. Anything else, and what is nested too deep, becomes the text of its repr,
    after ``<repr>``.
    """
    message = pb.Value()
    _fill(message, value, MAX_DEPTH)
    return message


def map_to_message(mapping: Mapping[Any, Any]) -> pb.Map:
    """Turns a mapping into a message; its keys become strings."""
    message = pb.Map()
    _fill_map(message, mapping, MAX_DEPTH)
    return message


def _fill_map(message: pb.Map, mapping: Mapping[Any, Any], depth: int) -> None:
    # Two keys may become one; the last wins.
    for key, value in {_valid_text(str(key)): value for key, value in mapping.items()}.items():
        _fill(message.items[key], value, depth - 1)


def _valid_text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _fill(message: pb.Value, value: Any, depth: int) -> None:
    if value is None:
        message.null = True
    elif isinstance(value, bool):
        message.boolean = value
    elif isinstance(value, str):
        _fill_text(message, value)
    elif isinstance(value, np.generic | np.ndarray) and not isinstance(value, bytes):
        _fill_array(message, value, depth)
    elif isinstance(value, int):
        _fill_integer(message, value)
    elif isinstance(value, float):
        message.number = value
    elif isinstance(value, bytes | bytearray | memoryview):
        message.binary = bytes(value)
    elif isinstance(value, Mapping | list | tuple) and depth > 0:
        _fill_container(message, value, depth)
    else:
        _fill_repr(message, value)


def _fill_text(message: pb.Value, text: str) -> None:
    try:
        message.text = text
    except (UnicodeError, ValueError):
        _fill_repr(message, text)


def _fill_integer(message: pb.Value, value: int) -> None:
    if -(2**63) <= value < 2**63:
        message.integer = value
    elif value.bit_length() < 3 * _LONGEST_BIG_INTEGER:
        message.big_integer = str(int(value))
    else:
        message.text = f"{REPR_PREFIX}int of {value.bit_length()} bits"


def _fill_array(message: pb.Value, array: np.generic | np.ndarray[Any, Any], depth: int) -> None:
    if array.dtype.kind == "O" and depth > 0:
        _fill(message, array.tolist(), depth - 1)
        return
    try:
        message.array.CopyFrom(array_to_message(array))
    except ConfigError:
        _fill_repr(message, array)


def _fill_container(
    message: pb.Value, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], depth: int
) -> None:
    if isinstance(value, Mapping):
        message.map.SetInParent()
        _fill_map(message.map, value, depth)
        return
    target = message.list if isinstance(value, list) else message.tuple
    target.SetInParent()
    for item in value:
        _fill(target.items.add(), item, depth - 1)


def _fill_repr(message: pb.Value, value: Any) -> None:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"{type(value).__qualname__} whose repr fails"
    message.text = _valid_text(REPR_PREFIX + text[:_LONGEST_REPR])


def value_from_message(message: pb.Value) -> Any:
    """Reads a value. An empty message is None; numpy arrays are read-only.

    Raises:
        RemoteProtocolError: An array or number in it makes no sense, or it is nested too deep.
    """
    return _read(message, MAX_DEPTH)


def map_from_message(message: pb.Map) -> dict[str, Any]:
    """Reads a mapping.

    Raises:
        RemoteProtocolError: As for ``value_from_message``.
    """
    return _read_map(message, MAX_DEPTH)


def _read_map(message: pb.Map, depth: int) -> dict[str, Any]:
    return {key: _read(value, depth - 1) for key, value in message.items.items()}


def _read(message: pb.Value, depth: int) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null":
        return None
    if kind in ("list", "tuple", "map"):
        return _read_container(message, kind, depth)
    if kind == "array":
        array = array_from_message(message.array)
        return array if array.ndim else array[()]
    if kind == "big_integer":
        return _read_big_integer(message.big_integer)
    return getattr(message, kind)


def _read_container(message: pb.Value, kind: str, depth: int) -> Any:
    if depth <= 0:
        raise RemoteProtocolError(f"a value of more than {MAX_DEPTH} lists within each other")
    if kind == "map":
        return _read_map(message.map, depth)
    if kind == "list":
        return [_read(item, depth - 1) for item in message.list.items]
    return tuple(_read(item, depth - 1) for item in message.tuple.items)


def _read_big_integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _LONGEST_BIG_INTEGER:
        raise RemoteProtocolError(f"{text[:40]!r} is no integer in decimal")
    return int(text)
