"""Nested spaces as flat dm_env_rpc specs: the parts' names are joined by dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium
from gymnasium import spaces

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.dm_specs import space_from_spec, spec_to_message
from raygym.wire.leaves import leaf_spaces
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb
from raygym.wire.spaces import MAX_SPACE_DEPTH, MAX_SPACES

_Space: TypeAlias = gymnasium.Space[Any]
_Tree: TypeAlias = "dict[str, pb.TensorSpec | _Tree]"


def leaf_names(root: str, space: _Space) -> list[str]:
    """Names the leaves of a space, in their order: ``observation.camera.0``; of a leaf: ``root``.

    Raises:
        ConfigError: A key is empty, has a dot in it, or is no string.
    """
    if isinstance(space, spaces.Dict):
        for key in space.spaces:
            if not isinstance(key, str) or not key or "." in key:
                raise ConfigError(f"{root}: the key {key!r} cannot be part of a dotted name")
        parts: Any = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
    else:
        return [root]
    return [name for key, part in parts for name in leaf_names(f"{root}.{key}", part)]


def specs_from_space(root: str, space: _Space) -> list[pb.TensorSpec]:
    """Describes every leaf of a space, in their order.

    Raises:
        ConfigError: dm_env_rpc cannot carry a part, or a key.
    """
    names = leaf_names(root, space)
    return [
        spec_to_message(name, leaf) for name, leaf in zip(names, leaf_spaces(space), strict=True)
    ]


def space_from_specs(root: str, specs: Sequence[pb.TensorSpec]) -> tuple[_Space, list[str]]:
    """Builds the space that dotted names describe.

    Names below ``root`` nest into Dicts, or into a Tuple where they are 0, 1, 2 and so on. A
    spec named ``root`` alone is that leaf. With ``root`` empty, every name is below it.

    Returns:
        The space, and the specs' names in the order of the space's leaves.

    Raises:
        RemoteProtocolError: Two names clash, one is not below ``root``, or they nest too deep.
    """
    if len(specs) == 1 and root and specs[0].name == root:
        return space_from_spec(specs[0]), [root]
    if len(specs) > MAX_SPACES:
        raise RemoteProtocolError(f"{len(specs)} tensors; at most {MAX_SPACES} make a space")
    tree: _Tree = {}
    prefix = f"{root}." if root else ""
    for spec in specs:
        if not spec.name.startswith(prefix):
            raise RemoteProtocolError(f"the tensor {spec.name[:80]!r} is not below {root!r}")
        _plant(tree, spec.name[len(prefix) :].split("."), spec)
    names: list[str] = []
    return _grow(tree, names), names


def _plant(tree: _Tree, path: list[str], spec: pb.TensorSpec) -> None:
    if len(path) > MAX_SPACE_DEPTH:
        raise RemoteProtocolError(f"the tensor {spec.name[:80]!r} nests too deep")
    for key in path[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise RemoteProtocolError(
                f"the tensor {spec.name[:80]!r} lies within the tensor {branch.name[:80]!r}"
            )
        tree = branch
    if path[-1] in tree:
        raise RemoteProtocolError(f"two tensors by the name of {spec.name[:80]!r}")
    tree[path[-1]] = spec


def _grow(tree: _Tree, names: list[str]) -> _Space:
    keys = list(tree)
    is_tuple = bool(keys) and set(keys) == {str(index) for index in range(len(keys))}
    if is_tuple:
        keys.sort(key=int)
    parts: list[tuple[str, _Space]] = []
    for key in keys:
        branch = tree[key]
        if isinstance(branch, dict):
            parts.append((key, _grow(branch, names)))
        else:
            parts.append((key, space_from_spec(branch)))
            names.append(branch.name)
    return spaces.Tuple(part for _, part in parts) if is_tuple else spaces.Dict(parts)
