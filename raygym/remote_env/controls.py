"""Actions into key and pointer events. Pure: nothing is sent from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np

from raygym.core import Event
from raygym.errors import ConfigError
from raygym.specs import EnvSpec
from raygym.strokes import DRAG, Hand, Motion, Tap, is_place
from raygym.wire.keysyms import keysym

PROBE_KEYSYM = 0x60
"""Backtick: the key that Universe's clients press to measure the action lag."""


@dataclass(frozen=True)
class KeyInput:
    """A key goes down or up."""

    keysym: int
    """X keysym."""
    is_down: bool


@dataclass(frozen=True)
class PointerInput:
    """The pointer is at (x, y), in pixels of the screen, with these buttons held."""

    x: int
    y: int
    buttonmask: int
    """Bit 0 is the left button; 0 to 255."""


Input: TypeAlias = KeyInput | PointerInput

PROBE: tuple[Input, ...] = (KeyInput(PROBE_KEYSYM, True), KeyInput(PROBE_KEYSYM, False))
"""A key press that no game should mind."""


class Controls(Protocol):
    """Turns actions into inputs and knows which keys are held."""

    space: gymnasium.Space[Any]
    """The action space."""

    def inputs(self, action: Any) -> list[Input]:
        """Returns what to send for one action, in order; raises ConfigError if it is none."""
        ...

    def release(self) -> list[Input]:
        """Returns what lets go of everything held, and forgets it."""
        ...


def make_controls(spec: EnvSpec, *, takes_events: bool, screen_px: tuple[int, int]) -> Controls:
    """Returns the controls of an environment.

    Args:
        spec: The environment.
        takes_events: Whether Universe's events are its actions instead of the catalog's.
        screen_px: Width and height of the screen.

    Raises:
        ConfigError: The catalog names a key that there is not.
    """
    if takes_events:
        return EventControls(screen_px)
    if spec.is_momentary:
        return StrokeControls(spec.actions, (spec.region.x, spec.region.y))
    return KeySetControls(spec.actions)


class KeySetControls:
    """Discrete actions, each a set of keys held until the next action.

    Only the difference to what is held already is sent.

    Args:
        actions: Names of the keys held by each action; an empty set for none.

    Raises:
        ConfigError: A key has no such name.
    """

    def __init__(self, actions: Sequence[Sequence[str]]) -> None:
        if not actions:
            raise ConfigError("KeySetControls: expected at least one action, got none")
        self._keysyms = [tuple(dict.fromkeys(keysym(name) for name in names)) for names in actions]
        self._held: tuple[int, ...] = ()
        self.space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(len(actions))

    def inputs(self, action: Any) -> list[Input]:
        """Returns the releases, then the presses, that lead to the keys of ``action``."""
        wanted = self._keysyms[_index(action, len(self._keysyms), "key sets")]
        inputs: list[Input] = [KeyInput(k, False) for k in self._held if k not in wanted]
        inputs += [KeyInput(k, True) for k in wanted if k not in self._held]
        self._held = wanted
        return inputs

    def release(self) -> list[Input]:
        """Returns a release for each key held."""
        inputs: list[Input] = [KeyInput(k, False) for k in self._held]
        self._held = ()
        return inputs


class StrokeControls:
    """Discrete actions that are over at once: clicks, drags and keys that are tapped.

    Args:
        actions: The names of each, as in ``raygym.strokes``.
        origin_px: Where on the screen the environment's region starts.

    Raises:
        ConfigError: A key has no such name.
    """

    def __init__(self, actions: Sequence[tuple[str, ...]], origin_px: tuple[int, int]) -> None:
        if not actions:
            raise ConfigError("StrokeControls: expected at least one action, got none")
        for names in actions:
            if names != (DRAG,) and not is_place(names):
                tap_inputs(names)
        self._hand = Hand(actions)
        self._count = len(actions)
        self._origin_px = origin_px
        self.space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(self._count)

    def inputs(self, action: Any) -> list[Input]:
        """Returns all moves, presses and releases of ``action``."""
        motions = self._hand.motions(_index(action, self._count, "strokes"))
        return [item for motion in motions for item in self._inputs_of(motion)]

    def release(self) -> list[Input]:
        """Returns nothing: no action holds what another would have to let go."""
        self._hand.forget()
        return []

    def _inputs_of(self, motion: Motion) -> list[Input]:
        if isinstance(motion, Tap):
            return tap_inputs(motion.keys)
        x, y = self._origin_px
        return [PointerInput(x + motion.x, y + motion.y, int(motion.is_down))]


def tap_inputs(names: Sequence[str]) -> list[Input]:
    """Returns the presses of these keys in order, then their releases; raises ConfigError."""
    keysyms = [keysym(name) for name in names]
    downs: list[Input] = [KeyInput(key, True) for key in keysyms]
    return downs + [KeyInput(key, False) for key in reversed(keysyms)]


def _index(action: Any, count: int, noun: str) -> int:
    try:
        index = int(action)
        is_whole = index == action
    except (TypeError, ValueError):
        index, is_whole = -1, False
    if not is_whole or not 0 <= index < count:
        raise ConfigError(
            f"action: expected 0 to {count - 1} (one of {count} {noun}), got {action!r}"
        )
    return index


class EventControls:
    """Universe's events, several a step: ``[("KeyEvent", "ArrowUp", True)]``.

    Keys stay down until a later event releases them. Pointer coordinates are those of the
    whole screen.

    Args:
        screen_px: Width and height of the screen.
    """

    def __init__(self, screen_px: tuple[int, int]) -> None:
        self._screen_px = screen_px
        self._held: dict[int, None] = {}
        self._pointer = PointerInput(0, 0, 0)
        self.space: gymnasium.Space[Any] = EventSpace(screen_px)

    def inputs(self, action: Any) -> list[Input]:
        """Checks the events and returns them as inputs, in order."""
        inputs = parse_events(action, self._screen_px)
        for item in inputs:
            if isinstance(item, PointerInput):
                self._pointer = item
            elif item.is_down:
                self._held[item.keysym] = None
            else:
                self._held.pop(item.keysym, None)
        return inputs

    def release(self) -> list[Input]:
        """Returns a release for each key held, and for the buttons where they are."""
        inputs: list[Input] = [KeyInput(k, False) for k in self._held]
        if self._pointer.buttonmask:
            self._pointer = PointerInput(self._pointer.x, self._pointer.y, 0)
            inputs.append(self._pointer)
        self._held = {}
        return inputs


def parse_events(action: Any, screen_px: tuple[int, int]) -> list[Input]:
    """Checks a list of Universe's events.

    Args:
        action: ``("KeyEvent", name or keysym, is_down)`` or
            ``("PointerEvent", x, y, buttonmask)``, any number of them.
        screen_px: Width and height of the screen.

    Raises:
        ConfigError: One of them is malformed; the message names it by its index.
    """
    if isinstance(action, str) or not isinstance(action, Sequence):
        raise ConfigError(
            f'action: expected a list of events, as in [("KeyEvent", "ArrowUp", True)], '
            f"got {action!r}"
        )
    return [_parse_event(event, index, screen_px) for index, event in enumerate(action)]


def _parse_event(event: Any, index: int, screen_px: tuple[int, int]) -> Input:
    where = f"action: event {index}"
    plain = event
    if isinstance(event, Sequence) and not isinstance(event, str):
        plain = [value.item() if isinstance(value, np.generic) else value for value in event]
    match plain:
        case ["KeyEvent", str() as name, bool() as is_down]:
            return KeyInput(keysym(name), is_down)
        case ["KeyEvent", int() as code, bool() as is_down] if not isinstance(code, bool):
            if not 0 < code < 2**32:
                raise ConfigError(f"{where}: a keysym is from 1 to 2**32 - 1, got {code}")
            return KeyInput(code, is_down)
        case ["PointerEvent", int() as x, int() as y, int() as mask]:
            width, height = screen_px
            if not (0 <= x < width and 0 <= y < height):
                raise ConfigError(f"{where}: ({x}, {y}) is off the {width}x{height} screen")
            if not 0 <= mask <= 255:
                raise ConfigError(f"{where}: a buttonmask is from 0 to 255, got {mask}")
            return PointerInput(x, y, mask)
    raise ConfigError(
        f'{where}: expected ("KeyEvent", name, is_down) or ("PointerEvent", x, y, buttonmask), '
        f"got {event!r}"
    )


_SAMPLE_KEYS = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "space", "x")


class EventSpace(gymnasium.Space[list[Event]]):
    """All lists of valid events; a sample holds one key or pointer event.

    Args:
        screen_px: Width and height of the screen.
    """

    def __init__(self, screen_px: tuple[int, int]) -> None:
        super().__init__()
        self._screen_px = screen_px

    def contains(self, x: Any) -> bool:
        """Returns whether ``x`` is a list of valid events."""
        try:
            parse_events(x, self._screen_px)
        except ConfigError:
            return False
        return True

    def sample(self, mask: Any = None, probability: Any = None) -> list[Event]:
        """Draws one event: an arrow, space or x, or a move of the pointer."""
        del mask, probability
        choice = int(self.np_random.integers(len(_SAMPLE_KEYS) + 1))
        if choice < len(_SAMPLE_KEYS):
            return [("KeyEvent", _SAMPLE_KEYS[choice], bool(self.np_random.integers(2)))]
        x, y = (int(v) for v in self.np_random.integers(np.array(self._screen_px)))
        return [("PointerEvent", x, y, 0)]

    @property
    def is_np_flattenable(self) -> bool:
        """False: the lists have no fixed length."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventSpace) and other._screen_px == self._screen_px

    __hash__ = None  # type: ignore[assignment]  # as gymnasium's own spaces
