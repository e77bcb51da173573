"""Why a value is not in a space."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

_Space: TypeAlias = gymnasium.Space[Any]

_LONGEST_VALUE = 80
_LONGEST_SPACE = 300


def explain(space: _Space, value: Any, where: str = "action") -> str | None:
    """Says why a value is not in a space; None if it is.

    Looser than ``space.contains`` in one way: a number may come in another dtype, if the space's
    holds it up to rounding, and arrays may come as lists.

    Args:
        space: What the value ought to be in.
        value: Anything.
        where: What the value is, for the text.
    """
    if isinstance(space, spaces.Dict):
        return _explain_dict(space, value, where)
    if isinstance(space, spaces.Tuple):
        return _explain_tuple(space, value, where)
    if isinstance(space, spaces.Discrete):
        return _explain_discrete(space, value, where)
    if isinstance(space, spaces.Text):
        return _explain_text(space, value, where)
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return _explain_array(space, value, where)
    return None if space.contains(value) else _not_in(space, value, where, "it is no member")


def _not_in(space: _Space, value: Any, where: str, reason: str) -> str:
    return (
        f"{where} {_short(repr(value), _LONGEST_VALUE)} is not in "
        f"{_short(str(space), _LONGEST_SPACE)}: {reason}"
    )


def _short(text: str, length: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= length else plain[: length - 3] + "..."


def _explain_dict(space: spaces.Dict, value: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return _not_in(space, value, where, f"it is a {type(value).__name__}, not a dict")
    if value.keys() != space.spaces.keys():
        missing = sorted(map(str, space.spaces.keys() - value.keys()))
        extra = sorted(map(str, value.keys() - space.spaces.keys()))
        return _not_in(space, value, where, f"keys missing: {missing}, too many: {extra}")
    for key, part in space.spaces.items():
        reason = explain(part, value[key], f"{where}[{key!r}]")
        if reason is not None:
            return reason
    return None


def _explain_tuple(space: spaces.Tuple, value: Any, where: str) -> str | None:
    if not isinstance(value, tuple | list):
        return _not_in(space, value, where, f"it is a {type(value).__name__}, not a tuple")
    if len(value) != len(space.spaces):
        return _not_in(space, value, where, f"it has {len(value)} parts, not {len(space.spaces)}")
    for index, part in enumerate(space.spaces):
        reason = explain(part, value[index], f"{where}[{index}]")
        if reason is not None:
            return reason
    return None


def _explain_discrete(space: spaces.Discrete[Any], value: Any, where: str) -> str | None:
    first, count = int(space.start), int(space.n)
    try:
        number = operator.index(value)
    except TypeError:
        return _not_in(space, value, where, f"it is a {type(value).__name__}, not an integer")
    if first <= number < first + count:
        return None
    return _not_in(space, value, where, f"it must be from {first} to {first + count - 1}")


def _explain_text(space: spaces.Text, value: Any, where: str) -> str | None:
    if not isinstance(value, str):
        return _not_in(space, value, where, f"it is a {type(value).__name__}, not a string")
    if not space.min_length <= len(value) <= space.max_length:
        return _not_in(
            space,
            value,
            where,
            f"it has {len(value)} characters, not {space.min_length} to {space.max_length}",
        )
    strange = sorted(set(value) - space.character_set)
    return (
        _not_in(space, value, where, f"characters {strange} are not allowed") if strange else None
    )


def _explain_array(space: _Space, value: Any, where: str) -> str | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return _not_in(space, value, where, "its rows differ in length")
    dtype: np.dtype[Any] = space.dtype  # type: ignore[assignment]
    if array.shape != space.shape:
        return _not_in(
            space, value, where, f"its shape is {list(array.shape)}, not {list(space.shape or ())}"
        )
    kind = array.dtype.kind
    if array.dtype != dtype and (
        kind not in "biuf" or (kind == "f" and dtype.kind != "f") or dtype.kind == "b" != kind
    ):
        return _not_in(space, value, where, f"its dtype is {array.dtype}, not {dtype}")
    if kind == "f" == dtype.kind:
        array = array.astype(dtype, copy=False)
    if _within(space, array):
        return None
    return _not_in(space, value, where, _bounds_text(space, array))


def _within(space: _Space, array: npt.NDArray[Any]) -> bool:
    if isinstance(space, spaces.Box):
        return bool((array >= space.low).all() and (array <= space.high).all())
    if isinstance(space, spaces.MultiDiscrete):
        # The greatest is compared, not a difference, which could wrap around.
        last = space.start + (space.nvec - 1)
        return bool((array >= space.start).all() and (array <= last).all())
    return bool(((array == 0) | (array == 1)).all())


def _bounds_text(space: _Space, array: npt.NDArray[Any]) -> str:
    if array.dtype.kind == "f" and np.isnan(array).any():
        return f"{int(np.isnan(array).sum())} of its {array.size} numbers are NaN"
    if isinstance(space, spaces.Box):
        outside = (array < space.low) | (array > space.high)
    elif isinstance(space, spaces.MultiDiscrete):
        outside = (array < space.start) | (array > space.start + (space.nvec - 1))
    else:
        outside = (array != 0) & (array != 1)
    first = tuple(int(axis[0]) for axis in np.nonzero(outside))
    return f"{int(outside.sum())} of its {array.size} numbers are out of bounds, first at {first}"


def are_members(leaf_spaces: Sequence[_Space], leaves: Sequence[Any]) -> bool:
    """Whether stacked leaves, of the right dtypes and shapes, hold only members of their spaces.

    One look at a whole batch; if it says no, ``explain`` says which value and why.

    Args:
        leaf_spaces: The space of each leaf.
        leaves: Arrays whose first axis is the environment, or lists of strings.
    """
    return all(_all_members(space, leaf) for space, leaf in zip(leaf_spaces, leaves, strict=True))


def _all_members(space: _Space, leaf: Any) -> bool:
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        if len(leaf) == 0:
            return True
        return first <= int(leaf.min()) and int(leaf.max()) < first + int(space.n)
    if isinstance(space, spaces.Text):
        return all(explain(space, text) is None for text in leaf)
    return _within(space, leaf)
