"""Many infos as one, in the form that Gymnasium gives those of a vector environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def add_info(infos: dict[str, Any], info: Mapping[str, Any], row: int, count: int) -> None:
    """Adds the info of one environment to those of all, as ``VectorEnv._add_info`` does.

    Each key gets an array of ``count`` values (numbers and arrays by their dtype, all else as
    objects, mappings again as such a dict), and under ``_key`` a bool array that says who has
    a value. Where Gymnasium would raise, or lose digits, because a value does not fit the array
    that the first one made, the array becomes one that holds both.

    Args:
        infos: What was added so far; changed.
        info: Of one environment.
        row: Which one.
        count: How many there are.
    """
    for key, value in info.items():
        if key == "final_obs":
            array = infos.get(key)
            if array is None:
                array = np.full(count, None, object)
            array[row] = value
        elif isinstance(value, dict):
            array = infos.get(key)
            if not isinstance(array, dict):
                array = {}
            add_info(array, value, row, count)
        else:
            array = _put(infos.get(key), value, row, count)
        infos[key] = array
        mask = infos.get(f"_{key}")
        if mask is None:
            mask = infos[f"_{key}"] = np.zeros(count, np.bool_)
        mask[row] = True


def _put(array: Any, value: Any, row: int, count: int) -> npt.NDArray[Any]:
    if not isinstance(array, np.ndarray):
        array = _room(value, count)
    if array.dtype != object and not _fits(array, value):
        is_number = isinstance(value, int | float | np.number) and array.ndim == 1
        if is_number and array.dtype != np.bool_:
            array = array.astype(np.result_type(array.dtype, np.asarray(value).dtype))
        else:
            array = _as_objects(array)
    fitting: npt.NDArray[Any] = array
    fitting[row] = value
    return fitting


def _room(value: Any, count: int) -> npt.NDArray[Any]:
    if type(value) in (int, float, bool) or isinstance(value, np.number):
        return np.zeros(count, type(value))
    if isinstance(value, np.ndarray):
        return np.zeros((count, *value.shape), value.dtype)
    return np.full(count, None, object)


def _fits(array: npt.NDArray[Any], value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == array.shape[1:] and np.can_cast(value.dtype, array.dtype)
    is_plain = isinstance(value, bool | int | float | np.number | np.bool_)
    if not is_plain or array.ndim != 1:
        return False
    if isinstance(value, bool | np.bool_) or array.dtype == np.bool_:
        return isinstance(value, bool | np.bool_) and array.dtype == np.bool_
    return np.can_cast(np.asarray(value).dtype, array.dtype) or array.dtype.kind == "f"


def _as_objects(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    objects = np.full(len(array), None, object)
    for row, value in enumerate(array):
        objects[row] = value if array.ndim > 1 else value.item()
    return objects
