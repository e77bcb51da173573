from __future__ import annotations

import pytest

from raygym.errors import ConfigError
from raygym.wire.keysyms import keysym


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ArrowUp", 0xFF52),
        ("up", 0xFF52),
        ("left", 0xFF51),
        ("ArrowRight", 0xFF53),
        ("space", 0x20),
        ("sb", 0x20),
        ("a", 0x61),
        ("A", 0x41),
        ("`", 0x60),
        ("é", 0xE9),
        ("€", 0x010020AC),
        ("enter", 0xFF0D),
        ("return", 0xFF0D),
        ("bsp", 0xFF08),
        ("del", 0xFFFF),
        ("f1", 0xFFBE),
        ("f20", 0xFFD1),
        ("kp0", 0xFFB0),
        ("kp9", 0xFFB9),
        ("kpenter", 0xFF8D),
        ("ctrl", 0xFFE3),
        ("rctrl", 0xFFE4),
        ("lshift", 0xFFE1),
        ("meta", 0xFFE7),
        ("ralt", 0xFFEA),
        ("super", 0xFFEB),
        ("rhyper", 0xFFEE),
        ("pgdn", 0xFF56),
        ("sysrq", 0xFF15),
        ("slash", 0x5C),
        ("fslash", 0x2F),
    ],
)
def test_a_name_of_universe_has_its_keysym(name, expected):
    assert keysym(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"), [("ArowUp", "ArrowUp"), ("arrowleft", "ArrowLeft"), ("contrl", "ctrl")]
)
def test_an_unknown_name_is_refused_with_those_nearest(name, hint):
    with pytest.raises(ConfigError, match=f"{name}.*{hint}"):
        keysym(name)


def test_a_name_like_no_other_gets_examples():
    with pytest.raises(ConfigError, match="ArrowUp, left, space"):
        keysym("")
