"""Hypothesis strategies for every space that raygym.v1 carries, and for values of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
FLOATS = (np.float16, np.float32, np.float64)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@st.composite
def boxes(draw: Any) -> spaces.Box:
    """Boxes of any dtype and shape; bounds uniform, by element or infinite."""
    dtype = np.dtype(draw(st.sampled_from((*INTEGERS, *FLOATS, np.bool_))))
    shape = draw(SHAPES)
    form = draw(st.sampled_from(["uniform", "each", "infinite"]))
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, dtype=np.bool_)
    if form == "infinite" and dtype.kind != "u":
        return spaces.Box(-np.inf, np.inf, shape, dtype=dtype.type)
    low = draw(st.integers(0 if dtype.kind == "u" else -100, 50))
    high = draw(st.integers(low, low + 60))
    if form == "each":
        steps = np.arange(int(np.prod(shape))).reshape(shape) % 5
        lows = (low + steps).astype(dtype)
        return spaces.Box(lows, lows + np.array(high - low, dtype), shape, dtype=dtype.type)
    return spaces.Box(low, high, shape, dtype=dtype.type)


@st.composite
def discretes(draw: Any) -> spaces.Discrete:
    """Discrete spaces of any integer dtype and start."""
    dtype = draw(st.sampled_from(INTEGERS))
    start = draw(st.integers(-50 if np.dtype(dtype).kind == "i" else 0, 50))
    return spaces.Discrete(draw(st.integers(1, 70)), start=start, dtype=dtype)


@st.composite
def multi_discretes(draw: Any) -> spaces.MultiDiscrete:
    """MultiDiscrete spaces of any integer dtype, shape and start."""
    dtype = draw(st.sampled_from(INTEGERS))
    shape = draw(SHAPES)
    steps = np.arange(int(np.prod(shape))).reshape(shape)
    nvec = 1 + (steps * draw(st.integers(0, 7))) % 40
    start = (steps * draw(st.integers(0, 3))) % 50
    return spaces.MultiDiscrete(nvec, dtype=dtype, start=start)


MULTI_BINARIES = st.one_of(
    st.integers(1, 5).map(spaces.MultiBinary),
    st.lists(st.integers(1, 3), min_size=2, max_size=3).map(spaces.MultiBinary),
)
TEXTS = st.builds(
    lambda low, more, charset: spaces.Text(low + more, min_length=low, charset=charset),
    st.integers(0, 3),
    st.integers(0, 5),
    # Text.sample fails where a character comes twice, and loses zeros at the end.
    st.lists(
        st.characters(min_codepoint=1, exclude_categories=["Cs"]),
        unique=True,
        min_size=1,
        max_size=8,
    ).map("".join),
)
LEAVES = st.one_of(boxes(), discretes(), multi_discretes(), MULTI_BINARIES, TEXTS)
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        # A list of pairs keeps its order; a dict would be sorted.
        st.dictionaries(KEYS, inner, max_size=3).map(lambda parts: spaces.Dict([*parts.items()])),
        st.lists(inner, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=6,
)


@st.composite
def spaces_and_values(draw: Any, max_count: int = 3) -> tuple[Any, list[Any]]:
    """A space and some values that it sampled."""
    space = draw(SPACES)
    space.seed(draw(st.integers(0, 1000)))
    return space, [space.sample() for _ in range(draw(st.integers(0, max_count)))]


def are_same(one: Any, other: Any) -> bool:
    """Whether two values are equal down to types, dtypes and shapes; NaN equals NaN.

    A scalar and an array of no axes count as the same: Box.sample gives either.
    """
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and list(one) == list(other)
            and all(are_same(one[key], other[key]) for key in one)
        )
    if isinstance(one, tuple | list):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(are_same(a, b) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, np.ndarray | np.generic):
        return (
            isinstance(other, np.ndarray | np.generic)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and (one == other or (one != one and other != other))
