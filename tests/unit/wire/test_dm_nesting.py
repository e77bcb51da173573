"""Dicts and Tuples become dotted names and back."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from raygym.errors import ConfigError, RemoteProtocolError
from raygym.wire.dm_nesting import leaf_names, space_from_specs, specs_from_space
from raygym.wire.leaves import leaf_spaces
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as pb
from raygym.wire.spaces import MAX_SPACE_DEPTH, MAX_SPACES

BOX = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict([("z", spaces.Tuple([BOX, spaces.Discrete(3)])), ("a", spaces.Dict(b=BOX))])


def named(*names):
    return [pb.TensorSpec(name=name, dtype=pb.FLOAT) for name in names]


def test_leaves_are_named_by_their_way_in():
    expected = ["observation.z.0", "observation.z.1", "observation.a.b"]
    assert leaf_names("observation", NESTED) == expected
    assert [spec.name for spec in specs_from_space("observation", NESTED)] == expected


def test_a_leaf_has_the_name_of_the_root():
    assert leaf_names("action", BOX) == ["action"]
    assert space_from_specs("action", specs_from_space("action", BOX)) == (BOX, ["action"])


def test_a_nested_space_comes_back():
    space, names = space_from_specs("observation", specs_from_space("observation", NESTED))
    assert space == NESTED
    assert names == leaf_names("observation", NESTED)


def test_names_follow_the_leaves_though_the_specs_are_shuffled():
    specs = named("o.b.1", "o.a", "o.b.0", "o.c.x", "o.c.0")
    space, names = space_from_specs("o", specs)
    assert names == ["o.b.0", "o.b.1", "o.a", "o.c.x", "o.c.0"]
    assert isinstance(space.spaces["b"], spaces.Tuple)
    assert isinstance(space.spaces["c"], spaces.Dict)
    assert len(leaf_spaces(space)) == len(names)


def test_without_a_root_every_name_is_a_key():
    space, names = space_from_specs("", named("RGB", "position.x"))
    assert names == ["RGB", "position.x"]
    assert list(space.spaces) == ["RGB", "position"]


def test_no_specs_make_an_empty_space():
    assert space_from_specs("observation", []) == (spaces.Dict(), [])


@pytest.mark.parametrize("key", ["a.b", "", 3])
def test_a_key_that_makes_no_name_is_refused(key):
    with pytest.raises(ConfigError, match="dotted name"):
        leaf_names("observation", spaces.Dict([(key, BOX)]))


@pytest.mark.parametrize(
    "names",
    [
        ("o.a", "o.a"),
        ("o.a", "o.a.b"),
        ("o.a.b", "o.a"),
        ("o.a", "p.b"),
        ("o", "o.a"),
        ("o." + "a." * MAX_SPACE_DEPTH + "a",),
        tuple(f"o.{index}" for index in range(MAX_SPACES + 1)),
    ],
)
def test_names_that_make_no_space_are_refused(names):
    with pytest.raises(RemoteProtocolError, match="tensor"):
        space_from_specs("o", named(*names))
