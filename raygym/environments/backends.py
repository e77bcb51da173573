"""Backends by name, and the one that suits what was asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from raygym.core import Backend, Remote
from raygym.environments.needs import RemoteNeeds
from raygym.errors import ConfigError
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.remote_env.fake_backend import FakeBackend, InProcess
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.static_backend import StaticBackend

log = logging.getLogger(__name__)

BackendName = Literal["auto", "docker", "process", "fake", "static", "allocator", "local"]
"""Where Remotes come from: ``auto`` is ``docker`` where an engine and the image are there, else
``process``; ``static`` takes addresses of Remotes, ``allocator`` that of who lends them; with
``local`` there are none."""

VARIABLE = "RAYGYM_BACKEND"
"""Names the backend where nobody else does; without it ``auto``."""


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
    asked: BackendName | None, runtime: str, *, has_addresses: bool, has_allocator: bool = False
) -> BackendChoice:
    """Returns which backend it will be.

    Args:
        asked: A name; None takes what suits: addresses, else the variable RAYGYM_BACKEND,
            else ``auto``.
        runtime: Name of the Runtime.
        has_addresses: Whether addresses of Remotes were given.
        has_allocator: Whether that of an allocator was.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
    """
    given = "static" if has_addresses else "allocator" if has_allocator else None
    name = asked or given or os.environ.get(VARIABLE) or "auto"
    if name not in get_args(BackendName):
        *others, last = get_args(BackendName)
        known = f"{', '.join(others)} or {last}"
        raise ConfigError(f"backend: expected {known}, got {name!r}")
    if name != given and (given is not None or name in _NEEDS_ADDRESS):
        problem = _NEEDS_ADDRESS.get(name, "starts remotes itself; drop the addresses in remotes=")
        if name == "local":
            problem = "has no remotes; drop the addresses in remotes="
        raise ConfigError(f"backend={name!r}: {problem}")
    if name != "auto":
        return BackendChoice(name)  # type: ignore[arg-type]
    from raygym.environments.docker import why_no_docker

    why_not = why_no_docker(runtime)
    if why_not is None:
        return BackendChoice("docker", "an engine and the image are there")
    return BackendChoice("process", why_not)


def make_backend(
    name: BackendName | None,
    needs: RemoteNeeds,
    *,
    remotes: Sequence[Remote] = (),
    allocator: AllocatorAddress | None = None,
) -> Backend:
    """Makes a Backend by name; whoever calls this closes it.

    Args:
        name: See ``resolve_backend``.
        needs: What the Remotes are for.
        remotes: The addresses, for ``static`` only.
        allocator: Who lends Remotes, for ``allocator`` only.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
        MissingDependency: No engine answers, or the image is absent; for ``docker`` only.
    """
    choice = resolve_backend(
        name,
        needs.runtime,
        has_addresses=bool(remotes),
        has_allocator=allocator is not None,
    )
    if choice.name == "local":
        raise ConfigError(
            f"backend='local': {needs.env_id} needs a remote here; take auto, docker or process"
        )
    log.info("backend.chosen runtime=%s backend=%s", needs.runtime, choice)
    resolved = choice.name
    if allocator is not None:
        from raygym.remote_env.allocator_backend import AllocatorBackend

        return AllocatorBackend(
            allocator,
            env_id=needs.env_id,
            mode=needs.mode,
            start_timeout_s=needs.start_timeout_s,
        )
    if resolved == "docker":
        from raygym.environments.docker import docker_backend

        return docker_backend(needs)
    if resolved == "process":
        return ProcessBackend(
            start_timeout_s=needs.start_timeout_s, arguments=needs.process_arguments
        )
    return FakeBackend(_in_process) if resolved == "fake" else StaticBackend(remotes)


def choose_backend(
    backend: BackendName | Backend | None,
    needs: RemoteNeeds,
    remotes: Sequence[Remote],
    allocator: AllocatorAddress | None = None,
) -> tuple[Backend, bool]:
    """Returns a Backend, and whether it belongs to the caller.

    Args:
        backend: As it was asked for; None takes what suits.
        needs: What its Remotes are for.
        remotes: Addresses; none to start Remotes.
        allocator: Who lends them instead.

    Raises:
        ConfigError, MissingDependency: See ``make_backend``.
    """
    if backend is None or isinstance(backend, str):
        return make_backend(backend, needs, remotes=remotes, allocator=allocator), True
    if remotes or allocator is not None:
        raise ConfigError("give addresses in remotes= or a Backend, not both")
    return backend, False


_NEEDS_ADDRESS = {
    "static": "needs addresses, as in remotes='vnc://127.0.0.1:5900+15900'",
    "allocator": "needs that of one, as in remotes='http://TOKEN@127.0.0.1:8080'",
}


def _in_process() -> InProcess:
    from raygym.runtimes.in_process import InProcessHost

    return InProcessHost()
