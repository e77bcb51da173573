"""What stands behind ``gym-core.<Id>``: what Gymnasium knows, and the ids of Universe's time."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from raygym.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium

    from raygym.gym_keys import KeyMap

PREFIX = "gym-core."
"""What EnvIds of this Runtime begin with."""
ANY_ENV = "*"
"""In place of ids: a client may ask for whatever ``find`` takes."""
SCREEN_PX = (1024, 768)
MAX_PICTURE_PX = (1024, 752)
"""Larger pictures are scaled down to this; the timing strip stands below."""
HEADLESS = {"SDL_AUDIODRIVER": "dummy", "SDL_VIDEODRIVER": "dummy"}
"""Variables that keep environments away from sound and screen, which nobody hears or sees."""

_TABLE = Path(__file__).parent / "gym_core.yaml"
_VERSIONED = re.compile(r"^(?P<name>.+)-v(?P<version>\d+)$")
_MAX_FPS = 60
_DEFAULT_FPS = 30.0
_LONGEST_S = 3600.0
_finding = threading.RLock()
"""Gymnasium's registry is walked by who asks, and grows by what is imported."""


class AtariMissing(ConfigError):
    """The id is one of Atari's, and its emulator is not installed."""


@dataclass(frozen=True, kw_only=True)
class GymId:
    """One environment as Gymnasium makes it."""

    gym_id: str
    """An id that Gymnasium knows: ``ALE/Pong-v5``."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For ``gymnasium.make``."""
    fps: float | None = None
    """Steps a second in real time; None asks the environment."""
    is_sync: bool = False
    """Whether it steps only when the key c commits the keys that are held."""
    keys: tuple[str, ...] | None = None
    """Keys of each action; None asks the environment."""


@dataclass(frozen=True, kw_only=True)
class GymFacts:
    """What both ends must know to play an environment through its screen."""

    size_px: tuple[int, int]
    """Width and height of its picture on the screen."""
    fps: float
    """Steps a second."""
    key_map: KeyMap
    """Which keys stand for which action."""
    max_episode_s: float
    """Longest episode, in seconds."""
    is_sync: bool
    """See ``GymId``."""


def find(name: str) -> GymId:
    """Returns what an id stands for.

    Args:
        name: ``CartPole-v1``, ``ALE/Pong-v5``, ``PongDeterministic-v3``, or
            ``a_package:Its-v0``, which imports the package first; with or without
            ``gym-core.`` before it. Of any id, ``CartPoleSync-v1`` is the one that waits
            for the commit key.

    Raises:
        ConfigError: Neither Gymnasium nor raygym's table knows it.
        AtariMissing: It is one of Atari's, and ale-py is not installed.
    """
    with _finding:
        return _find(name)


def _find(name: str) -> GymId:
    module, _, plain = name.removeprefix(PREFIX).rpartition(":")
    if module:
        _import(module, name)
    found = _atari(plain)
    if found is not None:
        return found
    if plain.startswith("ALE/"):
        _register_atari(plain)
    try:
        return _registered(plain, is_sync=False)
    except ConfigError:
        parts = _VERSIONED.match(plain)
        if parts is not None and parts["name"].endswith("Sync"):
            awaited = f"{parts['name'].removesuffix('Sync')}-v{parts['version']}"
            with contextlib.suppress(ConfigError):
                return _registered(awaited, is_sync=True)
        raise


def make(name: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes an environment by one of the ids that ``find`` takes.

    Args:
        name: See ``find``.
        **kwargs: For ``gymnasium.make``; they go before those of the table.

    Raises:
        ConfigError: There is no such id, it cannot be made so, or a package that it needs
            is not installed.
    """
    import gymnasium

    found = find(name)
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            found.gym_id, **{"disable_env_checker": True, **found.kwargs, **kwargs}
        )
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ConfigError(f"{name}: a package is not installed: {error}") from error
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{name}: it cannot be made: {type(error).__name__}: {error}") from error
    return env


@functools.lru_cache(maxsize=64)
def facts(name: str) -> GymFacts:
    """Makes an environment once, looks at its first picture, and returns what was found.

    Raises:
        ConfigError: There is no such id, it paints no pictures, keys cannot play it, or a
            package that it needs is not installed.
    """
    import gymnasium

    from raygym.gym_keys import key_map

    found = find(name)
    with _without_devices(), contextlib.closing(make(name, render_mode="rgb_array")) as env:
        keys = key_map(env, found.keys)
        # What an environment raises may be anything.
        try:
            env.reset(seed=0)
            picture: Any = env.render()
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ConfigError(f"{name}: a package is not installed: {error}") from error
        except Exception as error:
            raise ConfigError(f"{name}: its first picture failed: {error!r}") from error
        shape: tuple[int, ...] = getattr(picture, "shape", ())
        if len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ConfigError(
                f"{name}: it renders no picture uint8[H, W, 3] with render_mode 'rgb_array' but "
                f"{type(picture).__name__} {shape}; drive it in lock-step, with mode='lockstep'"
            )
        fps = found.fps or _rate(env.metadata.get("render_fps"))
        limit = env.spec.max_episode_steps if env.spec is not None else None
    return GymFacts(
        size_px=_fitted(shape[1], shape[0]),
        fps=fps,
        key_map=keys,
        max_episode_s=min(_LONGEST_S, limit / fps) if limit else _LONGEST_S,
        is_sync=found.is_sync,
    )


@contextlib.contextmanager
def _without_devices() -> Iterator[None]:
    """Keeps SDL, which many environments paint with, away from sound and screen."""
    before = {name: os.environ.get(name) for name in HEADLESS}
    for name, value in HEADLESS.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)


def _rate(said: Any) -> float:
    if isinstance(said, int | float) and math.isfinite(said) and said > 0:
        return float(min(said, _MAX_FPS))
    return _DEFAULT_FPS


def _fitted(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_PICTURE_PX[0] / width, MAX_PICTURE_PX[1] / height)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _registered(gym_id: str, *, is_sync: bool) -> GymId:
    import gymnasium

    try:
        gymnasium.spec(gym_id)
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(
            f"unknown environment {PREFIX}{gym_id}: Gymnasium says: {error} Where it is another "
            "package's, name that before it, as in gym-core.a_package:Its-v0"
        ) from error
    parts = _VERSIONED.match(gym_id)
    name = gym_id if parts is None else parts["name"]
    keys = _table()["keys"].get(name)
    return GymId(
        gym_id=gym_id,
        is_sync=is_sync,
        keys=None if keys is None else tuple(keys),
    )


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except (ImportError, TypeError) as error:
        raise ConfigError(
            f"unknown environment {name}: {module!r} cannot be imported: {error}"
        ) from error


def _atari(plain: str) -> GymId | None:
    table = _table()["atari"]
    parts = _VERSIONED.match(plain)
    if parts is None or int(parts["version"]) not in table["versions"]:
        return None
    # The longest name first: DeterministicSlow ends with Slow, too.
    for variant in sorted(table["variants"], key=len, reverse=True):
        game = parts["name"].removesuffix(variant)
        if game not in table["games"] or game + variant != parts["name"]:
            continue
        gym_id = f"ALE/{game}-v5"
        _register_atari(plain)
        entry = table["variants"][variant]
        frameskip = entry["frameskip"]
        if variant.startswith("Deterministic"):
            frameskip = table["deterministic_frameskip"].get(game, frameskip)
        return GymId(
            gym_id=gym_id,
            kwargs={
                "frameskip": tuple(frameskip) if isinstance(frameskip, list) else frameskip,
                "repeat_action_probability": table["versions"][int(parts["version"])],
                "full_action_space": False,
            },
            fps=float(entry["fps"]),
            is_sync=variant.endswith("Sync"),
        )
    return None


def _register_atari(name: str) -> None:
    import gymnasium

    try:
        import ale_py
    except ImportError as error:
        raise AtariMissing(
            f"{name}: the Atari emulator is not installed; pip install 'raygym[atari]'"
        ) from error
    gymnasium.register_envs(ale_py)


@functools.cache
def _table() -> Mapping[str, Any]:
    raw: Mapping[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return raw
