"""Key names as Universe's actions have them, and their X11 keysyms."""

from __future__ import annotations

import difflib

from raygym.errors import ConfigError

_FIRST_UNICODE_KEYSYM = 0x01000000

_NAMED = {
    "bsp": 0xFF08,
    "backspace": 0xFF08,
    "tab": 0xFF09,
    "return": 0xFF0D,
    "enter": 0xFF0D,
    "esc": 0xFF1B,
    "escape": 0xFF1B,
    "ins": 0xFF63,
    "insert": 0xFF63,
    "del": 0xFFFF,
    "delete": 0xFFFF,
    "home": 0xFF50,
    "end": 0xFF57,
    "pgup": 0xFF55,
    "pgdn": 0xFF56,
    "left": 0xFF51,
    "up": 0xFF52,
    "right": 0xFF53,
    "down": 0xFF54,
    "ArrowLeft": 0xFF51,
    "ArrowUp": 0xFF52,
    "ArrowRight": 0xFF53,
    "ArrowDown": 0xFF54,
    "space": 0x20,
    "spacebar": 0x20,
    "sb": 0x20,
    # Universe's name for the other slash; kept, as agents written for it rely on it.
    "slash": 0x5C,
    "bslash": 0x5C,
    "fslash": 0x2F,
    "shift": 0xFFE1,
    "lshift": 0xFFE1,
    "rshift": 0xFFE2,
    "ctrl": 0xFFE3,
    "lctrl": 0xFFE3,
    "rctrl": 0xFFE4,
    "meta": 0xFFE7,
    "lmeta": 0xFFE7,
    "rmeta": 0xFFE8,
    "alt": 0xFFE9,
    "lalt": 0xFFE9,
    "ralt": 0xFFEA,
    "super": 0xFFEB,
    "lsuper": 0xFFEB,
    "rsuper": 0xFFEC,
    "hyper": 0xFFED,
    "lhyper": 0xFFED,
    "rhyper": 0xFFEE,
    "scrlk": 0xFF14,
    "sysrq": 0xFF15,
    "numlk": 0xFF7F,
    "caplk": 0xFFE5,
    "pause": 0xFF13,
    "kpenter": 0xFF8D,
    **{f"f{n}": 0xFFBD + n for n in range(1, 21)},
    **{f"kp{n}": 0xFFB0 + n for n in range(10)},
}


def keysym(name: str) -> int:
    """Returns the X11 keysym of a key.

    Args:
        name: A name such as ``"ArrowUp"``, ``"left"``, ``"space"`` or ``"ctrl"``, or any single
            character.

    Raises:
        ConfigError: There is no such key; the message names those nearest to it.
    """
    if name in _NAMED:
        return _NAMED[name]
    if len(name) == 1:
        code = ord(name)
        return code if code < 0x100 else _FIRST_UNICODE_KEYSYM + code
    near = difflib.get_close_matches(name, _NAMED, n=3)
    by_lower_case = [known for known in _NAMED if known.lower() == name.lower()]
    hint = ", ".join(dict.fromkeys([*by_lower_case, *near])) or "ArrowUp, left, space, ctrl, f1, a"
    raise ConfigError(f"key name {name!r} is not known; did you mean one of: {hint}?")
