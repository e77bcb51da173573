"""Backends by name, and the one that suits what was asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from raygym.config import DockerConfig
from raygym.core import Backend, Remote
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.remote_env.fake_backend import FakeBackend, InProcess
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.static_backend import StaticBackend

log = logging.getLogger(__name__)

BackendName = Literal["auto", "docker", "process", "fake", "static", "local"]
"""Where Remotes come from: ``auto`` is ``docker`` where an engine and the image are there, else
``process``; with ``local`` there are none."""

VARIABLE = "RAYGYM_BACKEND"
"""Names the backend where nobody else does; without it ``auto``."""


@dataclass(frozen=True, kw_only=True)
class RemoteNeeds:
    """What Remotes are wanted for."""

    runtime: str
    """Name of their Runtime."""
    env_id: str
    """What is played: ``gym-core.CartPole-v1``."""
    mode: Literal["lockstep", "realtime"] = "realtime"
    """Who owns time."""
    start_timeout_s: float = 60.0
    """Longest wait for a Remote to name its endpoints."""
    docker: DockerConfig = field(default_factory=DockerConfig)
    """How containers are kept."""
    is_client_steady: bool = False
    """Whether the client's name was chosen to be used again."""

    @property
    def process_arguments(self) -> list[str]:
        """More of the command line of a Remote that is a process."""
        given = ["--mode", self.mode]
        if self.env_id.startswith(GYM_CORE_PREFIX):
            given += ["--env", self.env_id]
        return given

    @property
    def variant(self) -> tuple[str, ...]:
        """More of the command line of a container; it can be rebound to any environment."""
        is_gym_core = self.env_id.startswith(GYM_CORE_PREFIX)
        return ("--mode", self.mode, *(["--any-env"] if is_gym_core else []))


@dataclass(frozen=True)
class BackendChoice:
    """Which backend it is."""

    name: BackendName
    """Never ``auto``."""
    why: str = ""
    """Why ``auto`` took it; empty where it was named."""

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


def resolve_backend(
    asked: BackendName | None, runtime: str, *, has_addresses: bool
) -> BackendChoice:
    """Returns which backend it will be.

    Args:
        asked: A name; None takes what suits: addresses, else the variable RAYGYM_BACKEND,
            else ``auto``.
        runtime: Name of the Runtime.
        has_addresses: Whether addresses of Remotes were given.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
    """
    name = asked or ("static" if has_addresses else os.environ.get(VARIABLE) or "auto")
    if name not in get_args(BackendName):
        *others, last = get_args(BackendName)
        known = f"{', '.join(others)} or {last}"
        raise ConfigError(f"backend: expected {known}, got {name!r}")
    if (name == "static") != has_addresses:
        raise ConfigError(
            f"backend={name!r}: "
            + (
                "has no remotes; drop the addresses in remotes="
                if name == "local"
                else "starts remotes itself; drop the addresses in remotes="
                if has_addresses
                else "needs addresses, as in remotes='vnc://127.0.0.1:5900+15900'"
            )
        )
    if name != "auto":
        return BackendChoice(name)  # type: ignore[arg-type]
    from raygym.environments.docker import why_no_docker

    why_not = why_no_docker(runtime)
    if why_not is None:
        return BackendChoice("docker", "an engine and the image are there")
    return BackendChoice("process", why_not)


def make_backend(
    name: BackendName | None, needs: RemoteNeeds, *, remotes: Sequence[Remote] = ()
) -> Backend:
    """Makes a Backend by name; whoever calls this closes it.

    Args:
        name: See ``resolve_backend``.
        needs: What the Remotes are for.
        remotes: The addresses, for ``static`` only.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
        MissingDependency: No engine answers, or the image is absent; for ``docker`` only.
    """
    choice = resolve_backend(name, needs.runtime, has_addresses=bool(remotes))
    if choice.name == "local":
        raise ConfigError(
            f"backend='local': {needs.env_id} needs a remote here; take auto, docker or process"
        )
    log.info("backend.chosen runtime=%s backend=%s", needs.runtime, choice)
    resolved = choice.name
    if resolved == "docker":
        from raygym.environments.docker import docker_backend

        return docker_backend(needs)
    if resolved == "process":
        return ProcessBackend(
            start_timeout_s=needs.start_timeout_s, arguments=needs.process_arguments
        )
    return FakeBackend(_in_process) if resolved == "fake" else StaticBackend(remotes)


def choose_backend(
    backend: BackendName | Backend | None, needs: RemoteNeeds, remotes: Sequence[Remote]
) -> tuple[Backend, bool]:
    """Returns a Backend, and whether it belongs to the caller.

    Args:
        backend: As it was asked for; None takes what suits.
        needs: What its Remotes are for.
        remotes: Addresses; none to start Remotes.

    Raises:
        ConfigError, MissingDependency: See ``make_backend``.
    """
    if backend is None or isinstance(backend, str):
        return make_backend(backend, needs, remotes=remotes), True
    if remotes:
        raise ConfigError("give addresses in remotes= or a Backend, not both")
    return backend, False


def _in_process() -> InProcess:
    from raygym.runtimes.in_process import InProcessHost

    return InProcessHost()
