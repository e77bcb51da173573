from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from raygym.errors import ConfigError
from raygym.gym_keys import key_map
from raygym.wire.keysyms import keysym


class Env(gymnasium.Env[Any, Any]):
    def __init__(self, space: spaces.Space[Any]) -> None:
        self.action_space = space


def speaking(count: int, **answers: Any) -> Env:
    """An environment with methods that give these answers."""
    env = Env(spaces.Discrete(count))
    for name, answer in answers.items():
        setattr(env, name, lambda answer=answer: answer)
    return env


def test_atari_s_meanings_are_arrows_and_z():
    env = speaking(5, get_action_meanings=["NOOP", "FIRE", "UP", "UPLEFT", "DOWNRIGHTFIRE"])
    keys = key_map(env)
    assert keys.actions == (
        (),
        ("z",),
        ("ArrowUp",),
        ("ArrowUp", "ArrowLeft"),
        ("ArrowDown", "ArrowRight", "z"),
    )
    assert keys.values == (0, 1, 2, 3, 4)


def test_each_action_s_keys_mean_that_action():
    meanings = ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    keys = key_map(speaking(6, get_action_meanings=meanings))
    assert [keys.index(held) for held in keys.actions] == list(range(6))


def test_space_fires_as_z_does():
    keys = key_map(speaking(3, get_action_meanings=["NOOP", "FIRE", "LEFTFIRE"]))
    assert keys.index({"space"}) == 1
    assert keys.index({"space", "ArrowLeft", "z"}) == 2


def test_keys_that_no_action_has_together_mean_the_one_with_most_of_them():
    keys = key_map(speaking(4, get_action_meanings=["NOOP", "FIRE", "LEFT", "LEFTFIRE"]))
    assert keys.index({"ArrowUp", "ArrowLeft", "z"}) == 3
    assert keys.index({"ArrowUp"}) == 0


def test_an_environment_s_own_keys_are_taken_and_arrows_stand_for_wasd():
    own = {("e",): 0, (" ",): 1, "d": 2, ("a", " "): 3}
    keys = key_map(speaking(4, get_keys_to_action=own))
    assert keys.actions == (("e",), ("space",), ("d",), ("a", "space"))
    assert keys.index({"ArrowRight"}) == 2
    assert keys.index({"ArrowLeft", "z"}) == 3
    assert keys.index(()) is None


@pytest.mark.parametrize(("left", "right"), [(276, 275), (1073741904, 1073741903)])
def test_pygame_s_numbers_of_the_arrows_are_known(left, right):
    own = {(): 1, (left,): 0, (right,): 2, (left, right): 1}
    keys = key_map(speaking(3, get_keys_to_action=own))
    assert keys.actions == (("ArrowLeft",), (), ("ArrowRight",))


@pytest.mark.parametrize("own", [{(999999,): 0, ("a",): 1}, {("a",): 0}, {("a",): 0, ("b",): 7}])
def test_a_map_that_is_not_understood_gives_way_to_digits(own):
    assert key_map(speaking(2, get_keys_to_action=own)).actions == (("0",), ("1",))


def test_the_table_goes_first():
    env = speaking(2, get_action_meanings=["LEFT", "RIGHT"])
    keys = key_map(env, ["ArrowLeft", ""])
    assert keys.actions == (("ArrowLeft",), ())
    assert (keys.index({"ArrowLeft"}), keys.index(())) == (0, 1)


def test_a_table_for_another_number_of_actions_is_not_taken():
    assert key_map(Env(spaces.Discrete(3)), ["ArrowLeft", ""]).actions == (("0",), ("1",), ("2",))


def test_actions_without_names_are_digits_then_letters_and_wait_for_a_key():
    keys = key_map(Env(spaces.Discrete(12, start=5)))
    assert keys.actions[9:] == (("9",), ("a",), ("b",))
    assert keys.values[0] == 5
    assert keys.index(()) is None
    assert keys.index({"b"}) == 11


def test_one_number_goes_left_and_right():
    keys = key_map(Env(spaces.Box(-2, 2, (1,), np.float32)))
    assert keys.actions == ((), ("ArrowLeft",), ("ArrowRight",))
    assert [float(value[0]) for value in keys.values] == [0, -2, 2]


def test_several_numbers_are_held_together_and_stay_in_the_space():
    space = spaces.Box(np.array([-1, 0, 0]), np.array([1, 1, 1]), dtype=np.float32)
    keys = key_map(Env(space))
    assert len(keys.actions) == 3 * 2 * 2
    assert all(value in space for value in keys.values)
    held = keys.index({"ArrowRight", "ArrowUp"})
    assert keys.values[held].tolist() == [1, 1, 0]


def test_numbers_without_bounds_go_to_one():
    keys = key_map(Env(spaces.Box(-np.inf, np.inf, (1,), np.float64)))
    assert sorted(float(value[0]) for value in keys.values) == [-1, 0, 1]


def test_many_numbers_have_a_pair_of_keys_each():
    space = spaces.Box(-1, 1, (6,), np.float32)
    keys = key_map(Env(space))
    assert len(keys.actions) == 13
    assert keys.values[keys.index({"5"})].tolist() == [0, 0, 0, 0, 0, -1]
    assert keys.values[keys.index({"y"})].tolist() == [0, 0, 0, 0, 0, 1]


def test_bits_are_digits():
    space = spaces.MultiBinary(3)
    keys = key_map(Env(space))
    assert all(value in space for value in keys.values)
    assert keys.values[keys.index({"1", "3"})].tolist() == [1, 0, 1]
    assert keys.values[keys.index(())].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(37),
        spaces.Box(-1, 1, (11,)),
        spaces.Box(-1, 1, (2, 2)),
        spaces.MultiDiscrete([2, 2]),
        spaces.Dict({}),
    ],
)
def test_actions_that_keys_cannot_tell_are_refused_with_their_space(space):
    with pytest.raises(ConfigError, match=r"keys cannot tell.*lock-step"):
        key_map(Env(space))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(36), spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (10,))]
)
def test_every_key_has_a_keysym_of_its_own(space):
    names = key_map(Env(space)).names
    assert len({keysym(name) for name in names}) == len(names)
