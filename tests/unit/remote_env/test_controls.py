from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import ConfigError
from raygym.remote_env.controls import (
    EventControls,
    EventSpace,
    Input,
    KeyInput,
    KeySetControls,
    PointerInput,
    StrokeControls,
    parse_events,
)
from raygym.wire.keysyms import keysym

LEFT, UP = keysym("ArrowLeft"), keysym("ArrowUp")
ACTIONS = [(), ("ArrowLeft",), ("ArrowUp",), ("ArrowUp", "ArrowLeft")]
SCREEN_PX = (640, 480)


def replay(inputs: list[Input], held: set[int]) -> None:
    """Applies key inputs to the keys held at the far end."""
    for item in inputs:
        assert isinstance(item, KeyInput)
        assert item.is_down is (item.keysym not in held), "a key went down or up twice"
        held ^= {item.keysym}


def test_an_action_presses_its_keys_and_the_next_sends_only_the_difference() -> None:
    controls = KeySetControls(ACTIONS)
    assert controls.inputs(1) == [KeyInput(LEFT, True)]
    assert controls.inputs(1) == []
    assert controls.inputs(3) == [KeyInput(UP, True)]
    assert controls.inputs(2) == [KeyInput(LEFT, False)]
    assert controls.inputs(0) == [KeyInput(UP, False)]


def test_releases_come_before_presses() -> None:
    controls = KeySetControls(ACTIONS)
    controls.inputs(1)
    assert controls.inputs(2) == [KeyInput(LEFT, False), KeyInput(UP, True)]


@given(st.lists(st.integers(0, len(ACTIONS) - 1)))
def test_after_any_actions_exactly_the_keys_of_the_last_are_held(actions: list[int]) -> None:
    controls, held = KeySetControls(ACTIONS), set[int]()
    for action in actions:
        replay(controls.inputs(action), held)
        assert held == {keysym(name) for name in ACTIONS[action]}
    replay(controls.release(), held)
    assert held == set()
    assert controls.release() == []


def test_after_a_release_the_same_action_presses_again() -> None:
    controls = KeySetControls(ACTIONS)
    controls.inputs(1)
    controls.release()
    assert controls.inputs(1) == [KeyInput(LEFT, True)]


@pytest.mark.parametrize("action", [np.int64(2), np.uint8(2), np.array(2), 2.0])
def test_an_action_may_be_any_whole_number(action: object) -> None:
    assert KeySetControls(ACTIONS).inputs(action) == [KeyInput(UP, True)]


@pytest.mark.parametrize("action", [-1, 4, 0.5, "up", None, [1]])
def test_what_is_no_action_is_refused_and_changes_nothing(action: object) -> None:
    controls = KeySetControls(ACTIONS)
    with pytest.raises(ConfigError, match="expected 0 to 3"):
        controls.inputs(action)
    assert controls.release() == []


def test_key_sets_need_an_action_and_known_keys() -> None:
    with pytest.raises(ConfigError, match="at least one action"):
        KeySetControls([])
    with pytest.raises(ConfigError, match="ArowUp"):
        KeySetControls([("ArowUp",)])


def test_the_discrete_space_has_one_value_per_key_set() -> None:
    assert KeySetControls(ACTIONS).space.n == 4  # type: ignore[attr-defined]


def test_events_are_passed_on_in_order() -> None:
    inputs = parse_events(
        [("KeyEvent", "ArrowUp", True), ["PointerEvent", 3, 4, 1], ("KeyEvent", 0x60, False)],
        SCREEN_PX,
    )
    assert inputs == [KeyInput(UP, True), PointerInput(3, 4, 1), KeyInput(0x60, False)]


def test_numbers_from_numpy_are_numbers() -> None:
    event = ("PointerEvent", np.int64(3), np.uint16(4), np.uint8(0))
    assert parse_events([event], SCREEN_PX) == [PointerInput(3, 4, 0)]


@pytest.mark.parametrize(
    ("action", "part"),
    [
        (3, "expected a list of events"),
        ("KeyEvent", "expected a list of events"),
        ([()], "event 0: expected"),
        ([("KeyEvent", "a", True), ("KeyEvent", "a")], "event 1: expected"),
        ([("KeyEvent", "a", 1)], "event 0: expected"),
        ([("KeyEvent", True, True)], "event 0: expected"),
        ([("KeyEvent", 0, True)], "keysym is from 1"),
        ([("KeyEvent", "NoSuchKey", True)], "NoSuchKey"),
        ([("PointerEvent", 640, 0, 0)], "off the 640x480 screen"),
        ([("PointerEvent", 0, -1, 0)], "off the 640x480 screen"),
        ([("PointerEvent", 0, 0, 256)], "buttonmask is from 0 to 255"),
        ([("JoystickAxisXEvent", 0.1)], "event 0: expected"),
    ],
)
def test_a_malformed_event_is_named(action: object, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        parse_events(action, SCREEN_PX)
    assert not EventSpace(SCREEN_PX).contains(action)


def test_release_lets_go_of_keys_and_buttons() -> None:
    controls = EventControls(SCREEN_PX)
    controls.inputs([("KeyEvent", "ArrowUp", True), ("KeyEvent", "ArrowLeft", True)])
    controls.inputs([("KeyEvent", "ArrowUp", False), ("PointerEvent", 5, 6, 1)])
    assert controls.release() == [KeyInput(LEFT, False), PointerInput(5, 6, 0)]
    assert controls.release() == []


def test_samples_of_the_event_space_lie_in_it_and_follow_its_seed() -> None:
    spaces = [EventSpace(SCREEN_PX), EventSpace(SCREEN_PX)]
    for space in spaces:
        space.seed(3)
    samples = [[space.sample() for _ in range(40)] for space in spaces]
    assert samples[0] == samples[1]
    assert all(spaces[0].contains(sample) for sample in samples[0])
    assert {sample[0][0] for sample in samples[0]} == {"KeyEvent", "PointerEvent"}


def test_event_spaces_of_the_same_screen_are_equal() -> None:
    assert EventSpace(SCREEN_PX) == EventSpace(SCREEN_PX)
    assert EventSpace(SCREEN_PX) != EventSpace((10, 10))


STROKES = [("@5,55",), (), ("drag",), ("a",), ("ctrl", "c")]
CLICKED = [PointerInput(15, 130, mask) for mask in (0, 1, 0)]


def test_a_click_is_sent_where_the_region_lies_on_the_screen() -> None:
    controls = StrokeControls(STROKES, (10, 75))
    assert controls.space.n == len(STROKES)
    assert controls.inputs(0) == CLICKED
    assert controls.inputs(0) == CLICKED
    assert controls.inputs(1) == []


def test_keys_are_tapped_each_time() -> None:
    controls = StrokeControls(STROKES, (10, 75))
    a, ctrl, c = keysym("a"), keysym("ctrl"), keysym("c")
    for _ in range(2):
        assert controls.inputs(3) == [KeyInput(a, True), KeyInput(a, False)]
    assert controls.inputs(4) == [
        KeyInput(ctrl, True),
        KeyInput(c, True),
        KeyInput(c, False),
        KeyInput(ctrl, False),
    ]


def test_a_drag_is_forgotten_with_its_episode() -> None:
    controls = StrokeControls(STROKES, (10, 75))
    assert controls.inputs(2) == controls.inputs(0) == []
    assert controls.release() == []
    assert controls.inputs(0) == CLICKED


@pytest.mark.parametrize("action", [-1, 5, 0.5, "x", None])
def test_a_number_that_is_no_stroke_is_an_error(action: object) -> None:
    with pytest.raises(ConfigError, match="0 to 4"):
        StrokeControls(STROKES, (0, 0)).inputs(action)


@pytest.mark.parametrize("actions", [[], [("nokey",)], [("@5",)]])
def test_strokes_that_cannot_be_made_are_an_error_from_the_start(
    actions: list[tuple[str, ...]],
) -> None:
    with pytest.raises(ConfigError):
        StrokeControls(actions, (0, 0))
