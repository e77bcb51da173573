"""dm_env_rpc's numbered, dotted specs as one Gymnasium space, and values to and from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.dm_nesting import space_from_specs
from raygym.wire.dm_specs import tensor_for_spec, value_for_space
from raygym.wire.leaves import LeafValue, explain, leaf_spaces, stack_values, unstack_values
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm


class SpecSpace:
    """The space of some specs, nested at the dots of their names; of a lone spec, its own.

    Args:
        specs: By uid.
        root: First part of the names, ``action`` or ``observation``; left out if all have it.

    Raises:
        RemoteProtocolError: A spec describes no space, or two names clash.
    """

    def __init__(self, specs: Mapping[int, dm.TensorSpec], root: str) -> None:
        by_name = {specs[uid].name: uid for uid in sorted(specs)}
        if len(specs) == 1:
            (root,) = by_name
        elif not all(name.startswith(f"{root}.") for name in by_name):
            root = ""
        self.space, names = space_from_specs(root, [specs[uid] for uid in sorted(specs)])
        self._leaves = [
            (by_name[name], specs[by_name[name]], leaf)
            for name, leaf in zip(names, leaf_spaces(self.space), strict=True)
        ]

    @property
    def uids(self) -> list[int]:
        """Of all specs, in the order of the space's leaves."""
        return [uid for uid, _, _ in self._leaves]

    def pack(self, value: Any) -> dict[int, dm.Tensor]:
        """Returns the tensors of a member of the space.

        Raises:
            ConfigError: It is none; the message says why.
        """
        complaint = explain(self.space, value)
        if complaint is not None:
            raise ConfigError(complaint)
        stacked = stack_values(self.space, [value])
        return {
            uid: tensor_for_spec(spec, leaf[0])
            for (uid, spec, _), leaf in zip(self._leaves, stacked, strict=True)
        }

    def unpack(self, tensors: Mapping[int, dm.Tensor]) -> Any:
        """Returns a member of the space; its arrays are the caller's own.

        Raises:
            RemoteProtocolError: A tensor is absent, or has another dtype or shape than its spec.
        """
        stacked: list[LeafValue] = []
        for uid, spec, leaf in self._leaves:
            if uid not in tensors:
                raise RemoteProtocolError(
                    f"observation {spec.name!r} (uid {uid}) was asked for and did not come"
                )
            value = value_for_space(leaf, tensors[uid])
            is_text = isinstance(value, str)
            stacked.append([value] if is_text else np.array(value, leaf.dtype)[np.newaxis])
        return unstack_values(self.space, stacked, 1)[0]
