"""Every Runtime and EnvId that raygym knows: the built-in ones and a person's own games.

A Flash game is a folder with a ``game.yaml``; the built-in games use the same form as
those in the folders that ``RAYGYM_GAMES`` names (separated by ``os.pathsep``).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from raygym import gym_ids, own_runtimes, strokes
from raygym.errors import ConfigError
from raygym.specs import EnvSpec, Game, Region, Runtime, ScoreSource

__all__ = [
    "Catalog",
    "EnvSpec",
    "Game",
    "Region",
    "Runtime",
    "ScoreSource",
    "load_catalog",
    "load_game",
]

GAMES_VARIABLE = "RAYGYM_GAMES"
FLASH_ORIGIN_PX = (18, 84)
"""Where a Flash game's picture starts on the screen: Universe's crop (universe-starter-agent,
``CropScreen(env, height, width, 84, 18)``), so that its agents find it there."""
FLASH_MAX_PX = (1006, 660)

_PACKAGE = Path(__file__).parent
BUILT_IN_GAMES = _PACKAGE / "runtimes" / "flashgames" / "games"
_ENV_ID = re.compile(r"^[a-z0-9-]+(\.[A-Za-z0-9-]+)+-v\d+$")
_GAME_ID = re.compile(r"^[A-Z][A-Za-z0-9]*$")


@dataclass(frozen=True)
class Catalog:
    """What raygym knows, read once; immutable."""

    runtimes: Mapping[str, Runtime]
    games: Mapping[str, Game]
    """By EnvId."""
    other_envs: Mapping[str, EnvSpec]

    @cached_property
    def envs(self) -> Mapping[str, EnvSpec]:
        """Every environment by its EnvId."""
        return {**{env_id: game.spec for env_id, game in self.games.items()}, **self.other_envs}

    def env(self, env_id: str) -> EnvSpec:
        """Returns the environment of that id.

        Those of gym-core are not listed: whatever Gymnasium knows is one of them, and its
        picture and keys are found by making it once in this process.

        Raises:
            ConfigError: No such environment; the message names the nearest.
        """
        if env_id.startswith(gym_ids.PREFIX):
            return _gym_core_env(env_id)
        try:
            return self.envs[env_id]
        except KeyError:
            near = difflib.get_close_matches(env_id, self.envs, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            known = ", ".join(sorted(i for i, spec in self.envs.items() if spec.page is None))
            raise ConfigError(
                f"unknown environment {env_id!r}.{hint} Known: {known}, the tasks of wob.mini "
                f"(`raygym envs` lists all), and {gym_ids.PREFIX}Id for each Id of Gymnasium's, "
                "as in gym-core.CartPole-v1. Own Flash games are found through the folders in "
                f"{GAMES_VARIABLE}."
            ) from None

    def runtime(self, name: str) -> Runtime:
        """Returns the Runtime of that name, or raises ConfigError."""
        if name not in self.runtimes:
            raise ConfigError(
                f"unknown runtime {name!r}. Known: {', '.join(sorted(self.runtimes))}"
            )
        return self.runtimes[name]


def load_catalog(games_dirs: Sequence[Path] | None = None) -> Catalog:
    """Reads the built-in catalog and the games in ``games_dirs``.

    Args:
        games_dirs: Folders whose sub-folders (or which themselves) hold a ``game.yaml``;
            None takes those that the variable RAYGYM_GAMES names now.

    Raises:
        ConfigError: A file is malformed; the message names the file and the key.
    """
    if games_dirs is None:
        games_dirs = [Path(p) for p in os.environ.get(GAMES_VARIABLE, "").split(os.pathsep) if p]
    raw = _read_yaml(_PACKAGE / "catalog.yaml")
    runtimes = {
        name: Runtime(
            name=name,
            **{
                **entry,
                "screen_px": (entry["screen_px"][0], entry["screen_px"][1]),
                "modes": tuple(entry["modes"]),
            },
        )
        for name, entry in raw["runtimes"].items()
    }
    other = {entry["id"]: _env_from(entry) for entry in raw["envs"]} | _wob_envs()
    for runtime, envs in own_runtimes.own_runtimes().values():
        _add_own(runtime, envs, runtimes, other)
    games: dict[str, Game] = {}
    for path in _game_files([BUILT_IN_GAMES, *games_dirs], required=games_dirs):
        game = load_game(path)
        if game.spec.id in games:
            raise ConfigError(
                f"{path}: the id {game.spec.id!r} is already taken by "
                f"{games[game.spec.id].spec.game_dir}; choose another id"
            )
        games[game.spec.id] = game
    return Catalog(runtimes=runtimes, games=games, other_envs=other)


def load_game(path: Path) -> Game:
    """Reads one ``game.yaml``.

    Raises:
        ConfigError: It is malformed; the message names the file, the key and what was seen.
    """
    raw = _read_yaml(path)
    reader = _Reader(path, raw)
    name = reader.text("id")
    if not _GAME_ID.match(name):
        raise reader.error("id", "letters and digits, starting with a capital, as in NeonRace")
    width, height = reader.pair("size")
    if not (1 <= width <= FLASH_MAX_PX[0] and 1 <= height <= FLASH_MAX_PX[1]):
        raise reader.error("size", f"[width, height] of at most {list(FLASH_MAX_PX)}")
    swf = path.parent / reader.text("swf")
    if not swf.is_file():
        raise reader.error("swf", f"an SWF file beside game.yaml; {swf} is not there")
    spec = EnvSpec(
        id=f"flashgames.{name}-v0",
        runtime="flashgames",
        title=str(raw.get("title", name)),
        fps=reader.number("fps", 1, 60),
        region=Region(*FLASH_ORIGIN_PX, width, height),
        actions=reader.actions("keys"),
        max_episode_s=reader.number("max_episode_s", 1, 3600, default=60),
        score_floor=reader.optional_number("score_floor"),
        score_ceiling=reader.optional_number("score_ceiling"),
        game_dir=path.parent,
    )
    return Game(
        spec=spec,
        swf=swf,
        score=reader.score(),
        reset=str(raw.get("reset") or ""),
        state=str(raw.get("state") or ""),
        start_keys=tuple(str(raw.get("start_keys") or "").split()),
    )


def _game_files(dirs: Iterable[Path], *, required: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for directory in dirs:
        here = [directory / "game.yaml"] if (directory / "game.yaml").is_file() else []
        found = here or sorted(directory.glob("*/game.yaml"))
        if not found and directory in required:
            raise ConfigError(
                f"{GAMES_VARIABLE}: no game.yaml in {directory} or the folders in it; "
                "see docs/own-games.md for the form"
            )
        files += found
    return files


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(raw).__name__}")
    return raw


def _env_from(entry: Mapping[str, Any]) -> EnvSpec:
    if not _ENV_ID.match(entry["id"]):
        raise ConfigError(f"catalog.yaml: {entry['id']!r} is no EnvId")
    return EnvSpec(
        id=entry["id"],
        runtime=entry["runtime"],
        title=entry["title"],
        fps=float(entry["fps"]),
        region=Region(*entry["region"]),
        actions=tuple(tuple(keys.split()) for keys in entry["actions"]),
        max_episode_s=float(entry["max_episode_s"]),
        score_floor=entry.get("score_floor"),
        score_ceiling=entry.get("score_ceiling"),
    )


def _add_own(
    runtime: Runtime,
    envs: Sequence[EnvSpec],
    runtimes: dict[str, Runtime],
    by_id: dict[str, EnvSpec],
) -> None:
    if runtime.name in runtimes:
        raise ConfigError(f"{runtime.task}: the runtime {runtime.name!r} is there already")
    runtimes[runtime.name] = runtime
    for spec in envs:
        if spec.id in by_id or spec.id.startswith(("flashgames.", gym_ids.PREFIX)):
            raise ConfigError(f"{runtime.task}: the id {spec.id!r} is already taken")
        by_id[spec.id] = spec


def _wob_envs() -> dict[str, EnvSpec]:
    raw = _read_yaml(_PACKAGE / "wob.yaml")
    region = Region(*raw["region"])
    grid = strokes.grid_of_clicks(width=region.width, height=region.height, **raw["clicks"])
    typed = [("space",) if letter == " " else (letter,) for letter in raw["characters"]]
    others, keys = ([tuple(names.split()) for names in raw[key]] for key in ("others", "keys"))
    specs = (
        EnvSpec(
            id=f"wob.mini.{name}-v0",
            runtime="wob",
            title=page.replace("-", " ").capitalize(),
            fps=float(raw["fps"]),
            region=region,
            actions=(*grid, *others, *typed, *keys),
            is_momentary=True,
            max_episode_s=float(limit_s),
            page=page,
        )
        for name, (page, limit_s) in raw["tasks"].items()
    )
    return {spec.id: spec for spec in specs}


def _gym_core_env(env_id: str) -> EnvSpec:
    facts = gym_ids.facts(env_id)
    return EnvSpec(
        id=env_id,
        runtime="gym-core",
        title=env_id.removeprefix(gym_ids.PREFIX),
        fps=facts.fps,
        region=Region(0, 0, *facts.size_px),
        actions=facts.key_map.actions,
        max_episode_s=facts.max_episode_s,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads checked values out of a ``game.yaml``."""

    path: Path
    raw: Mapping[str, Any]

    def error(self, key: str, expected: str) -> ConfigError:
        return ConfigError(
            f"{self.path}: {key}: expected {expected}; got {self.raw.get(key)!r}",
            path=str(self.path),
            key=key,
        )

    def text(self, key: str) -> str:
        value = self.raw.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "a text")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        value = self.raw.get(key)
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(v, int) for v in value)
        ):
            raise self.error(key, "two whole numbers, as in [640, 480]")
        return value[0], value[1]

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self.raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"a number from {low} to {high}")
        if not low <= value <= high:
            raise self.error(key, f"a number from {low} to {high}")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return None if self.raw.get(key) is None else self.number(key, -1e12, 1e12)

    def actions(self, key: str) -> tuple[tuple[str, ...], ...]:
        value = self.raw.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value) or not value:
            raise self.error(key, 'a list of key combinations, as in ["", "ArrowUp ArrowLeft"]')
        return tuple(tuple(v.split()) for v in value)

    def score(self) -> ScoreSource:
        value = self.raw.get("score", {"source": "none"})
        if not isinstance(value, dict) or value.get("source") not in ("call", "poll", "none"):
            raise self.error("score", "a mapping with source: call, poll or none")
        if value["source"] != "none" and not value.get("name"):
            raise self.error("score", f"name, as source is {value['source']}")
        return ScoreSource(
            source=value["source"],
            name=str(value.get("name") or ""),
            over=str(value.get("over") or ""),
        )
