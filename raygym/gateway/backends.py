"""Where the remotes of a gateway come from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from raygym.core import Backend
from raygym.environments.backends import make_backend, resolve_backend
from raygym.environments.needs import RemoteNeeds
from raygym.errors import ConfigError
from raygym.gateway.pool import Wanted
from raygym.remote_env.process_backend import ProcessBackend

if TYPE_CHECKING:
    from raygym.environments.backends import BackendName

log = logging.getLogger(__name__)


def open_backend(
    wanted: Wanted, *, backend: BackendName, start_timeout_s: float, is_on_ray: bool
) -> Backend:
    """Returns the Backend of one kind of remotes; each plays what was asked for, and no more.

    Args:
        wanted: Of which kind.
        backend: ``auto``, ``docker`` or ``process``.
        start_timeout_s: Longest start of a remote.
        is_on_ray: Whether leases of containers are known to the Ray cluster of this process.

    Raises:
        ConfigError: A gateway has no such backend.
        MissingDependency: No engine answers, or the image is absent.
    """
    choice = resolve_backend(backend, wanted.runtime, has_addresses=False)
    log.info("gateway.backend env_id=%s mode=%s backend=%s", wanted.env_id, wanted.mode, choice)
    needs = RemoteNeeds(
        runtime=wanted.runtime,
        env_id=wanted.env_id,
        mode=wanted.mode,
        start_timeout_s=start_timeout_s,
        is_client_steady=False,
    )
    if choice.name == "docker" and is_on_ray:
        from raygym.service.leased import leased_backend_on_ray

        return leased_backend_on_ray(
            variant=_arguments(wanted, needs.variant), env_id=wanted.env_id, keep_s=0.0
        )
    if choice.name == "process":
        return ProcessBackend(
            start_timeout_s=start_timeout_s,
            arguments=_arguments(wanted, tuple(needs.process_arguments)),
        )
    if choice.name == "docker":
        return make_backend("docker", needs)
    raise ConfigError(f"backend={choice.name!r}: a gateway takes auto, docker or process")


def _arguments(wanted: Wanted, usual: tuple[str, ...]) -> tuple[str, ...]:
    """Returns arguments of a remote; in lock-step it must know one environment only."""
    if wanted.mode == "lockstep":
        return ("--mode", wanted.mode, "--env", wanted.env_id)
    return usual
