"""Infos of many environments as one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st

from raygym.vector.infos import add_info


def joined(infos: list[dict[str, Any]]) -> dict[str, Any]:
    together: dict[str, Any] = {}
    for row, info in enumerate(infos):
        add_info(together, info, row, len(infos))
    return together


def gymnasiums(infos: list[dict[str, Any]]) -> dict[str, Any]:
    env: gymnasium.vector.VectorEnv[Any, Any, Any] = gymnasium.vector.VectorEnv()
    env.num_envs = len(infos)
    together: dict[str, Any] = {}
    for row, info in enumerate(infos):
        together = env._add_info(together, info, row)
    return together


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-5, 5),
    "float": st.floats(-1, 1),
    "bool": st.booleans(),
    "text": st.text(max_size=3),
    "number": st.integers(0, 5).map(np.float32),
    "array": st.integers(0, 5).map(lambda n: np.full(2, n)),
    "nested": st.fixed_dictionaries({}, optional={"a": st.integers(0, 3), "b": st.text()}),
    "final_obs": st.integers(0, 5).map(lambda n: np.full(3, n)),
}


@given(st.lists(st.fixed_dictionaries({}, optional=KINDS), min_size=1, max_size=4))
def test_infos_of_one_kind_are_joined_as_gymnasium_does(infos: list[dict[str, Any]]) -> None:
    assert data_equivalence(joined(infos), gymnasiums(infos))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, None], object),
        ([None, 1], object),
        ([1.5, None], object),
        ([1, 2.5], np.float64),
        ([True, None], object),
        ([True, 2], object),
        ([1, "text"], object),
        ([np.zeros(2), np.zeros(3)], object),
        ([np.zeros(2), None], object),
        ([np.float32(1), 2**40 + 1], np.float32),
    ],
)
def test_values_that_do_not_fit_get_an_array_that_holds_them(values: list[Any], dtype: Any) -> None:
    array = joined([{"a": value} for value in values])["a"]
    assert array.dtype == dtype
    if dtype is not np.float32:
        for found, value in zip(array, values, strict=True):
            assert np.array_equal(found, value) or found is value


def test_a_key_that_one_lacks_is_masked() -> None:
    together = joined([{"a": 1}, {}, {"a": None}])
    assert together["_a"].tolist() == [True, False, True]
    assert together["a"].tolist() == [1, 0, None]
