"""Which keys stand for which action of a Gymnasium environment.

Both ends follow the same rule: the near end to press the keys of an action, the far end to
tell the action from the keys that are held. The first that fits an environment:

1. The keys that raygym's table has for it (``gym_core.yaml``).
2. Its ``get_action_meanings()``, as of Atari: UP, DOWN, LEFT and RIGHT are the arrows,
   FIRE is z, or space.
3. Its ``get_keys_to_action()``. The arrows stand for w, a, s and d, and z for space, where
   it uses these and not those.
4. Discrete: the digits 0 to 9, then the letters from a, in the order of the actions.
5. Box of up to three numbers: left and right hold the first at its lowest and highest, down
   and up the second, s and w the third, all of them together if need be. Of more numbers:
   0 and q, 1 and w, and so on along the keyboard, one number at a time.
6. MultiBinary: the digits from 1, each for its bit.

Where no action has exactly the keys that are held, it is the one that has most of them.
With none of them held it is the action without keys; where each action has keys, the
environment waits for one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from raygym.errors import ConfigError

Keys = tuple[str, ...]

_MEANINGS = (
    ("UP", "ArrowUp"),
    ("DOWN", "ArrowDown"),
    ("LEFT", "ArrowLeft"),
    ("RIGHT", "ArrowRight"),
    ("FIRE", "z"),
)
_STANDS_FOR = {
    "ArrowUp": "w",
    "ArrowLeft": "a",
    "ArrowDown": "s",
    "ArrowRight": "d",
    "z": "space",
}
_PYGAME = {
    **{273: "ArrowUp", 274: "ArrowDown", 275: "ArrowRight", 276: "ArrowLeft"},
    1073741903: "ArrowRight",
    1073741904: "ArrowLeft",
    1073741905: "ArrowDown",
    1073741906: "ArrowUp",
}
"""Pygame's numbers of the arrows, of its versions 1 and 2."""
_IN_ORDER = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = (("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("s", "w"))
_MORE_PAIRS = tuple(zip("0123456789", "qwertyuiop", strict=True))
_MAX_BITS_AT_ONCE = 5


@dataclass(frozen=True)
class KeyMap:
    """The keys of each action, and the other way round."""

    actions: tuple[Keys, ...]
    """Names of the keys held for each action, in the order of the near end's actions."""
    values: tuple[Any, ...]
    """The environment's own action for each."""
    aliases: Mapping[str, str]
    """Keys that count as another one."""

    @property
    def names(self) -> frozenset[str]:
        """Every key that means something."""
        return frozenset(itertools.chain(*self.actions)) | frozenset(self.aliases)

    def index(self, held: Collection[str]) -> int | None:
        """Returns which action the held keys mean; None where the environment waits."""
        keys = {self.aliases.get(name, name) for name in held}
        best, most = None, -1
        for index, wanted in enumerate(self.actions):
            if len(wanted) > most and keys.issuperset(wanted):
                best, most = index, len(wanted)
        return best


def key_map(env: gymnasium.Env[Any, Any], table: Sequence[str] | None = None) -> KeyMap:
    """Returns the keys of an environment's actions.

    Args:
        env: The environment.
        table: Keys of each action from raygym's table, separated by spaces.

    Raises:
        ConfigError: Its actions cannot be told by keys.
    """
    space, plain = env.action_space, env.unwrapped
    if isinstance(space, gymnasium.spaces.Discrete):
        values = tuple(range(int(space.start), int(space.start) + int(space.n)))
        if table is not None and len(table) == len(values):
            return KeyMap(tuple(tuple(keys.split()) for keys in table), values, {})
        if hasattr(plain, "get_action_meanings"):
            return _of_meanings(plain.get_action_meanings(), values)
        if hasattr(plain, "get_keys_to_action"):
            found = _of_map(plain.get_keys_to_action(), values)
            if found is not None:
                return found
        if len(values) <= len(_IN_ORDER):
            return KeyMap(tuple((key,) for key in _IN_ORDER[: len(values)]), values, {})
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        if space.shape[0] <= len(_PAIRS):
            return _of_few_numbers(space)
        if space.shape[0] <= len(_MORE_PAIRS):
            return _of_numbers(space)
    if isinstance(space, gymnasium.spaces.MultiBinary) and space.shape[0] < 10:
        return _of_bits(int(space.shape[0]))
    raise ConfigError(
        f"keys cannot tell the actions of {space}; drive it in lock-step, with mode='lockstep'"
    )


def _of_meanings(meanings: Sequence[str], values: tuple[Any, ...]) -> KeyMap:
    actions = tuple(tuple(key for part, key in _MEANINGS if part in name) for name in meanings)
    return KeyMap(actions, values, {"space": "z"})


def _of_map(given: Mapping[Any, Any], values: tuple[Any, ...]) -> KeyMap | None:
    """Returns an environment's own map; None where it is not to be understood."""
    by_action: dict[Any, Keys] = {}
    for combination, action in given.items():
        parts = combination if isinstance(combination, str | tuple | list) else (combination,)
        keys = tuple(_key_name(part) for part in parts if part != "NOOP")
        if "" in keys:
            return None
        by_action.setdefault(action, keys)
    if set(by_action) != set(values):
        return None
    actions = tuple(by_action[value] for value in values)
    used = set(itertools.chain(*actions))
    aliases = {k: v for k, v in _STANDS_FOR.items() if v in used and k not in used}
    return KeyMap(actions, values, aliases)


def _key_name(part: Any) -> str:
    if isinstance(part, int):
        part = _PYGAME.get(part) or (chr(part) if 32 <= part < 127 else "")
    return "space" if part == " " else str(part)


def _bounds(space: gymnasium.spaces.Box) -> tuple[Any, Any, Any]:
    """Returns lowest, resting and highest action; without bounds, -1 and 1 stand for them."""
    low = np.where(np.isfinite(space.low), space.low, np.minimum(-1, space.high))
    high = np.where(np.isfinite(space.high), space.high, np.maximum(1, space.low))
    return (
        low.astype(space.dtype),
        np.clip(0, low, high).astype(space.dtype),
        high.astype(space.dtype),
    )


def _of_few_numbers(space: gymnasium.spaces.Box) -> KeyMap:
    low, rest, high = _bounds(space)
    actions: list[Keys] = []
    values: list[Any] = []
    for choice in itertools.product((None, 0, 1), repeat=space.shape[0]):
        value = rest.copy()
        for index, side in enumerate(choice):
            if side is not None:
                value[index] = (low, high)[side][index]
        if any(np.array_equal(value, other) for other in values):
            continue
        actions.append(tuple(_PAIRS[i][s] for i, s in enumerate(choice) if s is not None))
        values.append(value)
    return KeyMap(tuple(actions), tuple(values), {})


def _of_numbers(space: gymnasium.spaces.Box) -> KeyMap:
    low, rest, high = _bounds(space)
    actions: list[Keys] = [()]
    values = [rest]
    for index in range(space.shape[0]):
        for key, end in zip(_MORE_PAIRS[index], (low, high), strict=True):
            value = rest.copy()
            value[index] = end[index]
            actions.append((key,))
            values.append(value)
    return KeyMap(tuple(actions), tuple(values), {})


def _of_bits(count: int) -> KeyMap:
    at_once = count if count <= _MAX_BITS_AT_ONCE else 1
    chosen = [bits for n in range(at_once + 1) for bits in itertools.combinations(range(count), n)]
    values = tuple(np.isin(np.arange(count), bits).astype(np.int8) for bits in chosen)
    return KeyMap(tuple(tuple(str(bit + 1) for bit in bits) for bits in chosen), values, {})
