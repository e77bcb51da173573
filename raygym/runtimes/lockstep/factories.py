"""What makes environments, given by an id, by a name in a file or module, or as a function."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium

from raygym import gym_ids
from raygym.errors import ConfigError
from raygym.runtimes.lockstep.answers import refused
from raygym.runtimes.lockstep.env_loop import EnvFactory
from raygym.wire.proto import raygym_v1_pb2 as pb

FactoryOrId: TypeAlias = str | Sequence[str] | Callable[..., gymnasium.Env[Any, Any]]
"""An id of Gymnasium's or several; ``*`` for any; ``module:function`` or ``file.py:function``; a
function."""


@dataclass(frozen=True)
class GymFactory:
    """Makes environments by the ids that ``gym_ids.find`` takes."""

    def __call__(self, env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        """Makes one; actions were checked before they get there."""
        return gym_ids.make(env_id, **kwargs)


@dataclass(frozen=True)
class AnyGymFactory:
    """Makes environments by whatever ids clients come up with."""

    def __call__(self, env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        """Makes one.

        Raises:
            Refused: ``gym_ids.find`` finds none of that id.
        """
        try:
            gym_ids.find(env_id)
        except ConfigError as error:
            raise refused(pb.Error.NOT_FOUND, f"make: {error.message}") from error
        return gym_ids.make(env_id, **kwargs)


@dataclass(frozen=True)
class NamedFactory:
    """Calls a function that is looked up where it is needed."""

    where: str
    """A module, or the path of a file."""
    name: str
    """Of the function."""

    def __call__(self, _env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        """Makes one."""
        return self.load()(**kwargs)  # type: ignore[no-any-return]

    def load(self) -> Callable[..., Any]:
        """Returns the function.

        Raises:
            ConfigError: There is none of that name, or its module cannot be imported.
        """
        function = getattr(_module(self.where), self.name, None)
        if not callable(function):
            raise ConfigError(f"{self.where}:{self.name}: there is no function of that name")
        return function  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PlainFactory:
    """Calls a function."""

    function: Callable[..., gymnasium.Env[Any, Any]]
    """Takes the keyword arguments that a client gave."""

    def __call__(self, _env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
        """Makes one."""
        return self.function(**kwargs)


def resolve(factory_or_id: FactoryOrId) -> tuple[EnvFactory, tuple[str, ...]]:
    """Returns what makes environments, and the ids that it knows (none: one without a name).

    Ids of Gymnasium's are told without ``gym-core.`` before them.

    Raises:
        ConfigError: There is no such environment or function.
    """
    if callable(factory_or_id):
        return _of_function(factory_or_id), ()
    ids = (factory_or_id,) if isinstance(factory_or_id, str) else tuple(factory_or_id)
    if not ids:
        raise ConfigError("serve_env: give at least one id")
    if ids == (gym_ids.ANY_ENV,):
        return AnyGymFactory(), ids
    if len(ids) == 1:
        where, colon, name = ids[0].rpartition(":")
        if colon and name.isidentifier():
            factory = NamedFactory(where, name)
            factory.load()
            return factory, ()
    plain = tuple(env_id.removeprefix(gym_ids.PREFIX) for env_id in ids)
    for env_id in plain:
        try:
            gym_ids.find(env_id)
        except ConfigError as error:
            raise ConfigError(
                f"serve_env: {error.message} A function is given as module:function or "
                "file.py:function"
            ) from error
    return GymFactory(), plain


def pickled(factory: EnvFactory) -> bytes:
    """Returns a factory for another process.

    Raises:
        ConfigError: It cannot get there.
    """
    try:
        return pickle.dumps(factory)
    # What cannot be pickled says so in many ways.
    except Exception as error:
        raise ConfigError(
            f"serve_env: this factory cannot be given to another process: {error}. Make it a "
            "function at the top level of a module, give it as module:function, or say "
            "is_in_process=True"
        ) from error


def _of_function(function: Callable[..., Any]) -> EnvFactory:
    if getattr(function, "__module__", None) != "__main__":
        return PlainFactory(function)
    # Another process has another __main__, so a script's function is found by its file.
    name = getattr(function, "__qualname__", "")
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or not name.isidentifier():
        return PlainFactory(function)
    return NamedFactory(str(Path(path).resolve()), name)


@functools.cache
def _module(where: str) -> Any:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where).resolve()
        spec = importlib.util.spec_from_file_location(f"raygym_factory_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ConfigError(f"{where}: there is no such file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ConfigError(f"{where}: cannot be imported: {error}") from error
    return module
