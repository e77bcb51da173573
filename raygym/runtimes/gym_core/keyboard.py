"""The keys that are held, and which action they mean."""

from __future__ import annotations

from raygym.gym_keys import KeyMap
from raygym.wire.keysyms import keysym
from raygym.wire.rfb_server import KeyEvent


class Keyboard:
    """Hears key events and answers with the action that they mean.

    A key that went down and up between two answers counts once, unless others are held, so
    that a short press is not lost on a slow environment.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._map: KeyMap | None = None
        self._held: set[str] = set()
        self._tapped: set[str] = set()

    def use(self, key_map: KeyMap) -> None:
        """Begins anew with these keys; none is held."""
        self._map = key_map
        self._names = {}
        for name in key_map.names:
            self._names[keysym(name)] = name
            if len(name) == 1:
                self._names.setdefault(keysym(name.upper()), name)
        self._held.clear()
        self._tapped.clear()

    def hear(self, event: KeyEvent) -> None:
        """Takes a key event; those without a meaning are ignored."""
        name = self._names.get(event.keysym)
        if name is None:
            return
        if event.is_down:
            self._held.add(name)
            self._tapped.add(name)
        else:
            self._held.discard(name)

    def index(self) -> int | None:
        """Returns which action is meant now; None where the environment waits for a key."""
        if self._map is None:
            return None
        keys = self._held or self._tapped
        found = self._map.index(keys)
        self._tapped.clear()
        return found
