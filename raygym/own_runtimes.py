"""Runtimes of a user's own: a ``runtime.yaml``, and beside it the class that is their Task."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from raygym.errors import ConfigError
from raygym.specs import EnvSpec, Region, Runtime

VARIABLE = "RAYGYM_RUNTIMES"
"""Folders that hold a ``runtime.yaml``, or whose sub-folders do, with os.pathsep between."""

_NAME = re.compile(r"^[a-z][a-z0-9-]{0,39}$")
_ENV_ID = re.compile(r"^[a-z][\w-]*(\.[\w-]+)+-v\d+$")
_TASK = re.compile(r"^[\w-]+\.py:[A-Za-z_]\w*$")
_RUNTIME_KEYS = {field.name for field in fields(Runtime)} - {"modes"}
_ENV_KEYS = {field.name for field in fields(EnvSpec)} - {"runtime", "game_dir"}


def own_runtimes(dirs: Sequence[Path] | None = None) -> dict[str, tuple[Runtime, list[EnvSpec]]]:
    """Reads every ``runtime.yaml``, by the Runtime's name.

    Args:
        dirs: Folders as in RAYGYM_RUNTIMES; None takes those that it names now.

    Raises:
        ConfigError: A file is malformed, or a name is there twice.
    """
    if dirs is None:
        dirs = [Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    found: dict[str, tuple[Runtime, list[EnvSpec]]] = {}
    for directory in dirs:
        own = directory / "runtime.yaml"
        paths = [own] if own.is_file() else sorted(directory.glob("*/runtime.yaml"))
        if not paths:
            raise ConfigError(
                f"{VARIABLE}: no runtime.yaml in {directory} or the folders in it; "
                "see docs/own-runtimes.md for the form"
            )
        for path in paths:
            runtime, envs = load_runtime(path)
            if runtime.name in found:
                raise ConfigError(f"{path}: name: the runtime {runtime.name!r} is there twice")
            found[runtime.name] = runtime, envs
    return found


def load_runtime(path: Path) -> tuple[Runtime, list[EnvSpec]]:
    """Reads one ``runtime.yaml``.

    Raises:
        ConfigError: It is malformed; the message names the file and the key.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(raw).__name__}")
    envs = raw.pop("envs", None)
    if not isinstance(envs, list) or not envs:
        raise ConfigError(f"{path}: envs: expected a list of environments, got {envs!r}")
    _check(path, raw, _RUNTIME_KEYS, needed=("name", "task", "screen_px"))
    if not isinstance(raw["name"], str) or not _NAME.match(raw["name"]):
        raise ConfigError(
            f"{path}: name: expected small letters, digits and -, got {raw['name']!r}"
        )
    task = str(raw["task"])
    if not _TASK.match(task) or not (path.parent / task.partition(":")[0]).is_file():
        raise ConfigError(
            f"{path}: task: expected file.py:Class with the file beside it, got {task!r}"
        )
    runtime = Runtime(
        **{
            **raw,
            "task": f"{path.parent.resolve() / task}",
            "screen_px": tuple(raw["screen_px"]),
            "modes": ("realtime",),
        }
    )
    return runtime, [_env(path, entry, runtime) for entry in envs]


def task_class(runtime: Runtime) -> Any:
    """Imports the class that is a Runtime's Task.

    Raises:
        ConfigError: The file cannot be imported, or has no such class.
    """
    file, _, name = str(runtime.task).rpartition(":")
    module_name = f"raygym_own_{runtime.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None  # noqa: S101  a path that ends in .py has a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        return getattr(module, name)
    except Exception as error:
        raise ConfigError(
            f"{runtime.name}: the task {runtime.task} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _env(path: Path, entry: Any, runtime: Runtime) -> EnvSpec:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: envs: expected mappings, got {entry!r}")
    _check(path, entry, _ENV_KEYS, needed=("id", "fps", "actions", "max_episode_s"))
    if not _ENV_ID.match(str(entry["id"])):
        raise ConfigError(f"{path}: id: expected an EnvId as in own.Snake-v0, got {entry['id']!r}")
    region = entry.get("region", [0, 0, *runtime.screen_px])
    try:
        return EnvSpec(
            **{
                **entry,
                "runtime": runtime.name,
                "title": str(entry.get("title", entry["id"])),
                "fps": float(entry["fps"]),
                "max_episode_s": float(entry["max_episode_s"]),
                "region": Region(*region),
                "actions": tuple(tuple(keys.split()) for keys in entry["actions"]),
            }
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: {entry['id']}: {error}") from error


def _check(path: Path, raw: Mapping[str, Any], known: set[str], *, needed: Sequence[str]) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(f"{path}: {key}: unknown; known are {', '.join(sorted(known))}")
    for key in needed:
        if key not in raw:
            raise ConfigError(f"{path}: {key}: missing")
