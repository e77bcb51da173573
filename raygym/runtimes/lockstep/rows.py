"""Rows into Batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from raygym.runtimes.lockstep.group import EnvGroup, Rows, zeros
from raygym.wire.leaves import (
    LeafValue,
    explain,
    leaves_to_messages,
    single_to_messages,
    stack_values,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import map_to_message

# Below this, a few bytes more in a message cost less than a look elsewhere.
_WORTH_SHARING_BYTES = 8192


class RowsEncoder:
    """Makes messages of what a group of environments gave.

    Args:
        group: The environments.
        memory: Shared with the client; None puts all into messages.
    """

    def __init__(self, group: EnvGroup, memory: memoryview | None) -> None:
        self._group = group
        self._space: gymnasium.Space[Any] = group.observation_space
        self._memory = memory

    def batch(self, rows: Rows) -> pb.Batch:
        """Returns rows as a message; what an environment's space does not hold is a failure."""
        leaves = self._leaves(rows)
        infos = self._infos(rows) if any(rows.infos) else []
        if rows.failures:
            leaves = self._leaves(rows)
        return pb.Batch(
            envs=rows.envs,
            observations=self._messages(leaves),
            rewards=np.array(rows.rewards, "<f8").tobytes(),
            terminated=bytes(rows.terminated),
            truncated=bytes(rows.truncated),
            infos=infos,
            finals=rows.finals,
            failures=rows.failures,
        )

    def final(self, env: int, observation: Any, info: Mapping[str, Any]) -> pb.Final:
        """Returns the last observation and info of an episode as a message.

        Raises:
            LocalProtocolError: The observation is not in its space.
        """
        return pb.Final(
            env=env,
            observation=single_to_messages(self._space, observation),
            info=pb.Value(map=map_to_message(info)),
        )

    def _messages(self, leaves: list[LeafValue]) -> list[pb.Leaf]:
        size = sum(leaf.nbytes for leaf in leaves if not isinstance(leaf, list))
        is_shared = self._memory is not None and size >= _WORTH_SHARING_BYTES
        return leaves_to_messages(leaves, self._memory if is_shared else None)

    def _leaves(self, rows: Rows) -> list[LeafValue]:
        try:
            return stack_values(self._space, rows.observations)
        # An observation may be anything.
        except Exception:  # noqa: BLE001
            return self._stack_one_by_one(rows)

    def _stack_one_by_one(self, rows: Rows) -> list[LeafValue]:
        """Finds the rows that spoil the rest, makes failures of them, and fills them."""
        failed = {failure.env for failure in rows.failures}
        for row, observation in enumerate(rows.observations):
            if observation is None and rows.envs[row] in failed:
                rows.observations[row] = zeros(self._space)
                continue
            try:
                stack_values(self._space, [observation])
            except Exception as error:  # noqa: BLE001
                why = explain(self._space, observation, where="observation") or str(error)
                message = f"the environment gave an observation that is not in its space: {why}"
                code = pb.Error.INTERNAL
                self._group.spoil(rows, row, pb.Error(code=code, message=message))
                rows.observations[row] = zeros(self._space)
        return stack_values(self._space, rows.observations)

    def _infos(self, rows: Rows) -> list[pb.Value]:
        messages = []
        for row, info in enumerate(rows.infos):
            try:
                messages.append(pb.Value(map=map_to_message(info)))
            except Exception as error:  # noqa: BLE001  an info may be anything
                why = f"the environment gave an info that is no mapping of names to values: {error}"
                self._group.spoil(rows, row, pb.Error(code=pb.Error.INTERNAL, message=why))
                messages.append(pb.Value(map=pb.Map()))
        return messages
