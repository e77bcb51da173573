"""Keys as Chromium's DevTools protocol takes them."""

from __future__ import annotations

from typing import Any

_NAMED = {
    # name of the action: key, code, Windows' number, text that it types
    "enter": ("Enter", "Enter", 13, "\r"),
    "backspace": ("Backspace", "Backspace", 8, ""),
    "tab": ("Tab", "Tab", 9, ""),
    "delete": ("Delete", "Delete", 46, ""),
    "esc": ("Escape", "Escape", 27, ""),
    "left": ("ArrowLeft", "ArrowLeft", 37, ""),
    "up": ("ArrowUp", "ArrowUp", 38, ""),
    "right": ("ArrowRight", "ArrowRight", 39, ""),
    "down": ("ArrowDown", "ArrowDown", 40, ""),
    "home": ("Home", "Home", 36, ""),
    "end": ("End", "End", 35, ""),
    "pgup": ("PageUp", "PageUp", 33, ""),
    "pgdn": ("PageDown", "PageDown", 34, ""),
    "space": (" ", "Space", 32, " "),
    "ctrl": ("Control", "ControlLeft", 17, ""),
    "shift": ("Shift", "ShiftLeft", 16, ""),
}
_MODIFIERS = {"ctrl": 2, "shift": 8}
_COMMANDS = {"a": "selectAll", "c": "copy", "v": "paste", "x": "cut"}
# A keyboard of the United States: what a key types, and with shift; its code and its number.
_PRINTED = {
    "`~": ("Backquote", 192),
    "1!": ("Digit1", 49),
    "2@": ("Digit2", 50),
    "3#": ("Digit3", 51),
    "4$": ("Digit4", 52),
    "5%": ("Digit5", 53),
    "6^": ("Digit6", 54),
    "7&": ("Digit7", 55),
    "8*": ("Digit8", 56),
    "9(": ("Digit9", 57),
    "0)": ("Digit0", 48),
    "-_": ("Minus", 189),
    "=+": ("Equal", 187),
    "[{": ("BracketLeft", 219),
    "]}": ("BracketRight", 221),
    "\\|": ("Backslash", 220),
    ";:": ("Semicolon", 186),
    "'\"": ("Quote", 222),
    ",<": ("Comma", 188),
    ".>": ("Period", 190),
    "/?": ("Slash", 191),
    **{f"{chr(n + 32)}{chr(n)}": (f"Key{chr(n)}", n) for n in range(ord("A"), ord("Z") + 1)},
}
_BY_CHARACTER = {
    character: (character, code, number, character)
    for pair, (code, number) in _PRINTED.items()
    for character in pair
}
_SHIFTED = frozenset(pair[1] for pair in _PRINTED)


def key_events(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the parameters of ``Input.dispatchKeyEvent`` that tap keys together.

    Args:
        names: Each a character or a name of the catalog's; modifiers first.

    Raises:
        KeyError: There is no such key.
    """
    events, modifiers = [], 0
    for name in names:
        modifiers |= _MODIFIERS.get(name, 0)
        events.append(_down(name, modifiers | (_MODIFIERS["shift"] if name in _SHIFTED else 0)))
    for name in reversed(names):
        modifiers &= ~_MODIFIERS.get(name, 0)
        events.append({**_fields(name), "type": "keyUp", "modifiers": modifiers})
    return events


def _fields(name: str) -> dict[str, Any]:
    key, code, number, _ = _NAMED.get(name) or _BY_CHARACTER[name]
    return {"key": key, "code": code, "windowsVirtualKeyCode": number}


def _down(name: str, modifiers: int) -> dict[str, Any]:
    text = (_NAMED.get(name) or _BY_CHARACTER[name])[3]
    event = {**_fields(name), "modifiers": modifiers}
    if modifiers & _MODIFIERS["ctrl"]:
        commands = [_COMMANDS[name]] if name in _COMMANDS else []
        return {**event, "type": "rawKeyDown", "commands": commands}
    return {**event, "type": "keyDown", "text": text} if text else {**event, "type": "rawKeyDown"}
