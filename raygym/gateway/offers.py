"""What a gateway offers: environment ids as clients write them, and what they stand for."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence
from typing import Literal

from raygym import gym_ids
from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.gateway.pool import Wanted

Mode = Literal["lockstep", "realtime"]

_WILDCARDS = frozenset("*?[")
_MAX_ID_LENGTH = 256
_REMEMBERED = 1024
_SHOWN = 20


class Offers:
    """The environments that clients may ask for.

    An id that names a package to import, as ``a_package:Its-v0`` does, must be listed as it is:
    no pattern offers it.

    Args:
        env_ids: Ids and patterns; a client that names none gets the first id that is no pattern.

    Raises:
        ConfigError: There is none among them, or one that nobody knows.
    """

    def __init__(self, env_ids: Sequence[str] = ("*",)) -> None:
        if not env_ids:
            raise ConfigError("env_ids: offer at least one environment, or '*' for all")
        self._catalog = load_catalog()
        self._known = functools.lru_cache(_REMEMBERED)(self._look_up)
        self._patterns = [env_id for env_id in env_ids if _WILDCARDS & set(env_id)]
        self.env_ids: tuple[str, ...] = tuple(
            self._known(env_id, True) for env_id in env_ids if env_id not in self._patterns
        )
        """Those that are listed one by one."""

    def find(self, env_id: str, mode: Mode, *, client_id: str = "") -> Wanted:
        """Returns what a client asks for; may import a package for the first time.

        Args:
            env_id: As the client wrote it; one of Gymnasium's with or without ``gym-core.``;
                empty for the first that is listed.
            mode: Who owns time.
            client_id: Name of the client.

        Raises:
            ConfigError: It is not offered, nobody knows it, or it has no such mode.
        """
        if len(env_id) > _MAX_ID_LENGTH or not env_id.isprintable():
            raise ConfigError(f"env_id: expected at most {_MAX_ID_LENGTH} printable characters")
        if not env_id and not self.env_ids:
            raise ConfigError(f"env_id: say which environment. {self._offered()}")
        name = self._known(env_id, False) if env_id else self.env_ids[0]
        if name not in self.env_ids and not self._fits(name):
            raise ConfigError(f"env_id: this gateway does not offer {name!r}. {self._offered()}")
        spec = self._catalog.envs.get(name)
        runtime = "gym-core" if spec is None else spec.runtime
        modes = self._catalog.runtime(runtime).modes
        if mode not in modes:
            raise ConfigError(f"env_id: {name} runs in {' and '.join(modes)} only, not in {mode}")
        return Wanted(env_id=name, runtime=runtime, mode=mode, client_id=client_id)

    def find_any(self, runtime: str, mode: Mode, *, client_id: str = "") -> Wanted:
        """Returns what a client asks for who has said no more than the Runtime.

        Args:
            runtime: As the catalog has it.
            mode: Who owns time.
            client_id: Name of the client.

        Raises:
            ConfigError: No pattern covers all of that Runtime, nobody knows it, or it has no
                such mode.
        """
        modes = self._catalog.runtime(runtime).modes
        if mode not in modes:
            raise ConfigError(f"mode: {runtime} has {' and '.join(modes)}, got {mode!r}")
        name = f"{runtime}.{gym_ids.ANY_ENV}"
        if not self._fits(name):
            raise ConfigError(
                f"env_id: say which environment; not all of {runtime} are offered. "
                f"{self._offered()}"
            )
        return Wanted(env_id=name, runtime=runtime, mode=mode, client_id=client_id)

    def _look_up(self, env_id: str, is_trusted: bool) -> str:
        """Returns an id as the catalog writes it."""
        if env_id in self._catalog.envs:
            return env_id
        name = gym_ids.PREFIX + env_id.removeprefix(gym_ids.PREFIX)
        if ":" in name and not is_trusted:
            return name
        try:
            gym_ids.find(name)
        except ConfigError:
            # That of the catalog names what is near.
            if "." in name.removeprefix(gym_ids.PREFIX):
                self._catalog.env(env_id)
            raise
        return name

    def _fits(self, name: str) -> bool:
        return ":" not in name and any(
            fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns
        )

    def _offered(self) -> str:
        offered = [*self.env_ids, *self._patterns]
        more = ", ..." if len(offered) > _SHOWN else ""
        return f"It offers {', '.join(offered[:_SHOWN])}{more}"
