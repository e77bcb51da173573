from __future__ import annotations

import pytest

from raygym.catalog import load_catalog
from raygym.runtimes.wob.keyboard import key_events
from raygym.strokes import DRAG, is_place

TYPED = [
    names
    for names in load_catalog([]).env("wob.mini.ClickTest-v0").actions
    if names and names != (DRAG,) and not is_place(names)
]
ENTER, SHIFT = "\r", 8


def test_every_key_of_the_catalog_goes_down_and_up():
    for names in TYPED:
        events = key_events(names)
        assert [event["type"] for event in events[len(names) :]] == ["keyUp"] * len(names)
        downs, ups = events[: len(names)], events[len(names) :]
        assert [event["code"] for event in downs] == [event["code"] for event in reversed(ups)]
        assert all(event["windowsVirtualKeyCode"] for event in events)


@pytest.mark.parametrize(
    ("name", "text", "code", "number", "modifiers"),
    [
        ("a", "a", "KeyA", 65, 0),
        ("A", "A", "KeyA", 65, SHIFT),
        ("1", "1", "Digit1", 49, 0),
        ("!", "!", "Digit1", 49, SHIFT),
        ("space", " ", "Space", 32, 0),
        ("enter", ENTER, "Enter", 13, 0),
    ],
)
def test_a_key_types_its_text(name, text, code, number, modifiers):
    down = key_events((name,))[0]
    assert (down["type"], down["text"], down["code"]) == ("keyDown", text, code)
    assert (down["windowsVirtualKeyCode"], down["modifiers"]) == (number, modifiers)


def test_keys_that_type_nothing_have_no_text():
    down = key_events(("backspace",))[0]
    assert (down["type"], down["key"]) == ("rawKeyDown", "Backspace")
    assert "text" not in down


def test_control_makes_an_editing_command_of_a_letter():
    control, letter, letter_up, control_up = key_events(("ctrl", "c"))
    assert control["key"] == "Control"
    assert (letter["type"], letter["commands"], letter["modifiers"]) == ("rawKeyDown", ["copy"], 2)
    assert (letter_up["modifiers"], control_up["modifiers"]) == (2, 0)


def test_a_key_that_there_is_not_is_an_error():
    with pytest.raises(KeyError):
        key_events(("f13",))
