"""Stacked leaves as Gymnasium's vector environments batch values, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import iterate

from raygym.errors import ConfigError, LocalProtocolError
from raygym.wire.leaves import LeafValue, are_members, explain, leaf_spaces, stack_values

_Space = gymnasium.Space[Any]


def batch_of(space: _Space, leaves: Sequence[LeafValue]) -> Any:
    """Returns stacked leaves as a batch of a space, with copies of the arrays.

    Args:
        space: Of one environment.
        leaves: Stacked over the environments.
    """
    return _batch_of(space, iter(leaves))


def _batch_of(space: _Space, leaves: Iterator[LeafValue]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _batch_of(part, leaves) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_batch_of(part, leaves) for part in space.spaces)
    leaf = next(leaves)
    return tuple(leaf) if isinstance(leaf, list) else leaf.copy()


def merged(
    leaves: Sequence[LeafValue], news: Sequence[LeafValue], envs: Sequence[int]
) -> list[LeafValue]:
    """Returns copies of leaves in which some environments' rows are new ones."""
    both: list[LeafValue] = []
    for leaf, new in zip(leaves, news, strict=True):
        whole: Any = leaf.copy()
        for row, env in enumerate(envs):
            whole[env] = new[row]
        both.append(whole)
    return both


class ActionBatches:
    """Batches of actions into stacked leaves.

    Args:
        single_space: Of one environment.
        batched_space: Of all.
        count: How many environments there are.
    """

    def __init__(self, single_space: _Space, batched_space: _Space, count: int) -> None:
        self._space = single_space
        self._batched = batched_space
        self._count = count
        self._leaf_spaces = leaf_spaces(single_space)

    def leaves(self, actions: Any, is_ignored: npt.NDArray[np.bool_] | None) -> list[LeafValue]:
        """Returns a batch as leaves, checked.

        Args:
            actions: As Gymnasium batches them; lists will do for arrays.
            is_ignored: bool[N], environments whose action need not be in the space; None: none.

        Raises:
            ConfigError: An action is not in the space; the message names both.
        """
        leaves: list[LeafValue] = []
        if self._take(self._space, actions, leaves) and are_members(self._leaf_spaces, leaves):
            return leaves
        return self._one_by_one(actions, is_ignored)

    def _take(self, space: _Space, actions: Any, leaves: list[LeafValue]) -> bool:
        """Adds the leaves of a batch; returns False where it is not just as it should be."""
        if isinstance(space, spaces.Dict):
            if not isinstance(actions, dict) or actions.keys() != space.spaces.keys():
                return False
            return all(self._take(part, actions[key], leaves) for key, part in space.spaces.items())
        if isinstance(space, spaces.Tuple):
            if not isinstance(actions, tuple | list) or len(actions) != len(space.spaces):
                return False
            return all(
                self._take(part, action, leaves)
                for part, action in zip(space.spaces, actions, strict=True)
            )
        if isinstance(space, spaces.Text):
            return False
        try:
            array = actions if type(actions) is np.ndarray else np.asarray(actions)
        except ValueError:
            return False
        leaves.append(array)
        return array.dtype == space.dtype and array.shape == (self._count, *(space.shape or ()))

    def _one_by_one(
        self, actions: Any, is_ignored: npt.NDArray[np.bool_] | None
    ) -> list[LeafValue]:
        why = _unlike(self._space, actions, "the batch of actions")
        try:
            single = [] if why else list(iterate(self._batched, actions))
        # A batch may be anything.
        except Exception as error:  # noqa: BLE001
            why = str(error)
        if why is not None:
            raise ConfigError(
                f"step: the actions are no batch of {self._count} of {self._space}: {why}"
            )
        if len(single) != self._count:
            raise ConfigError(
                f"step: {len(single)} actions came for {self._count} environments of {self._space}"
            )
        for env, action in enumerate(single):
            why = explain(self._space, action, where=f"the action of environment {env}")
            if why is not None and (is_ignored is None or not is_ignored[env]):
                raise ConfigError(f"step: {why}")
        try:
            return stack_values(self._space, single)
        except LocalProtocolError as error:
            raise ConfigError(f"step: {error.message}") from error


def _unlike(space: _Space, batch: Any, where: str) -> str | None:
    """Says where a batch has other parts than its space; Gymnasium would drop some silently."""
    if isinstance(space, spaces.Dict):
        if not isinstance(batch, dict) or batch.keys() != space.spaces.keys():
            return f"{where} is no dict of {', '.join(map(repr, space.spaces))}"
        parts = [(part, batch[key], f"{where}[{key!r}]") for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        if not isinstance(batch, tuple | list) or len(batch) != len(space.spaces):
            return f"{where} is no tuple of {len(space.spaces)}"
        parts = [
            (part, item, f"{where}[{index}]")
            for index, (part, item) in enumerate(zip(space.spaces, batch, strict=True))
        ]
    else:
        return None
    return next((why for part in parts if (why := _unlike(*part)) is not None), None)
