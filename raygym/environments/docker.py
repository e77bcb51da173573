"""Containers by lease, for one process without Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raygym.catalog import load_catalog
from raygym.errors import ConfigError, RaygymError

if TYPE_CHECKING:
    from raygym.environments.needs import RemoteNeeds
    from raygym.leases.leased_backend import LeasedBackend
    from raygym.remote_env.docker.store import DockerStore

_ANSWER_TIMEOUT_S = 5.0


def docker_store(needs: RemoteNeeds) -> DockerStore:
    """Returns where containers are made and found.

    Raises:
        MissingDependency: No engine answers.
    """
    from raygym.remote_env.docker.store import DockerStore

    return DockerStore(
        start_timeout_s=needs.start_timeout_s,
        publish_ports=needs.docker.publish_ports,
        tls=needs.docker.tls,
        container_runtime=needs.docker.container_runtime,
    )


def docker_backend(needs: RemoteNeeds) -> LeasedBackend:
    """Returns containers by lease, kept in a file of this user on this machine.

    Raises:
        MissingDependency: No engine answers, or the image is absent.
        ConfigError: A setting makes no sense.
    """
    from raygym.leases.file_registry import FileRegistry
    from raygym.leases.leased_backend import LeasedBackend
    from raygym.leases.recycling import Recycling
    from raygym.remote_env.state import state_directory

    if load_catalog().runtime(needs.runtime).image is None:
        raise ConfigError(
            f"backend='docker': the runtime {needs.runtime} has no image; use backend='process'"
        )
    store = docker_store(needs)
    registry = FileRegistry(state_directory(), survey=lambda: store.survey("local"))
    docker = needs.docker
    return LeasedBackend(
        store,
        registry,
        variant=needs.variant,
        env_id=needs.env_id,
        ttl_s=docker.ttl_s,
        keep_s=docker.keep_s if needs.is_client_steady else 0.0,
        on_mismatch=docker.on_mismatch,
        warm=docker.warm,
        recycling=Recycling(
            episodes=docker.recycle_episodes,
            memory_mib=docker.recycle_memory_mib,
            slowdown=docker.recycle_slowdown,
        ),
    )


def why_no_docker(runtime: str) -> str | None:
    """Returns why a Runtime cannot run in a container here; None where it can."""
    known = load_catalog().runtime(runtime)
    if known.image is None:
        return "it has no image"
    from raygym.remote_env.docker.engine import Engine

    try:
        with Engine(timeout_s=_ANSWER_TIMEOUT_S) as engine:
            engine.need_image(known)
    except RaygymError as error:
        return error.message.splitlines()[0]
    return None
