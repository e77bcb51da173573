"""Environments in lock-step from what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from raygym.config import ObservationConfig
from raygym.core import Backend, Remote
from raygym.environments.backends import choose_backend
from raygym.environments.settings import Settings
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.remote_env.lockstep_batch import LockstepBatch
from raygym.remote_env.lockstep_env import LockstepConfig, LockstepEnv
from raygym.remote_env.lockstep_remote import Connect, LockstepRemote
from raygym.remote_env.observations import ObservationMaker
from raygym.remote_env.rpc.connect import Access, open_session
from raygym.remote_env.rpc.pictures import picture_message
from raygym.remote_env.rpc.session import LockstepSession, MakeOptions


def lockstep_backend(settings: Settings) -> tuple[Backend, bool]:
    """Returns where Remotes in lock-step come from, and whether it belongs to the caller.

    Raises:
        ConfigError: The Backend or the addresses are of another kind.
    """
    if settings.backend == "fake":
        raise ConfigError("backend='fake' has no lock-step; use mode='realtime'")
    needs = settings.needs("lockstep")
    return choose_backend(settings.backend, needs, settings.addresses, settings.allocator)


def lockstep_env(
    settings: Settings,
    backend: Backend,
    client_id: str,
    close_also: Callable[[], None] = lambda: None,
) -> LockstepEnv:
    """Returns an environment in lock-step; of Gymnasium's own it starts the Remote.

    Args:
        settings: What was asked for.
        backend: Where its Remote comes from.
        client_id: On whose behalf.
        close_also: Called last when it is closed.

    Raises:
        ConfigError: A setting makes no sense.
        RemoteError: The Remote was needed at once, and did not get ready.
    """
    remote, config = _remote(settings, backend, client_id), _config(settings, 1)
    return LockstepEnv(remote, config, spaces=_known_spaces(settings), close_also=close_also)


def lockstep_batch(
    settings: Settings, backend: Backend, client_id: str, count: int
) -> LockstepBatch:
    """Returns many of Gymnasium's environments on one Remote, which starts now.

    Args:
        settings: What was asked for.
        backend: Where the Remote comes from.
        client_id: On whose behalf.
        count: How many.

    Raises:
        ConfigError: A setting makes no sense.
        RemoteError: The Remote did not get ready.
    """
    return LockstepBatch(_remote(settings, backend, client_id), _config(settings, count))


def _remote(settings: Settings, backend: Backend, client_id: str) -> LockstepRemote:
    return LockstepRemote(
        backend,
        settings.runtime,
        client_id=client_id,
        connect=_connect(settings),
        start_timeout_s=settings.start_timeout_s,
    )


def _config(settings: Settings, count: int) -> LockstepConfig:
    return LockstepConfig(
        name=settings.env_id,
        options=MakeOptions(
            env_id=settings.env_id.removeprefix(GYM_CORE_PREFIX),
            count=count,
            render_mode=settings.render_mode,
            env_kwargs=settings.env_kwargs or {},
            picture=picture_message(settings.observation),
            frame_skip=settings.frame_skip or 1,
        ),
        fps=None if settings.is_gym_core else settings.spec.fps,
        step_timeout_s=settings.step_timeout_s,
        start_timeout_s=settings.start_timeout_s,
    )


def _known_spaces(
    settings: Settings,
) -> tuple[gymnasium.spaces.Box, gymnasium.Space[Any]] | None:
    if settings.is_gym_core:
        return None
    spec = settings.spec
    seen = ObservationMaker(spec.region, settings.observation or ObservationConfig()).space
    return seen, gymnasium.spaces.Discrete(len(spec.actions))


def _connect(settings: Settings) -> Connect:
    def connect(remote: Remote, *, client_id: str, timeout_s: float) -> LockstepSession:
        if remote.rpc is None:
            raise ConfigError(
                f"{remote.id} ({remote.runtime}) has no gRPC endpoint; was it started with "
                "--mode lockstep?"
            )
        access = Access(
            endpoint=remote.rpc,
            token=remote.password,
            tls=settings.tls,
            is_insecure=settings.is_insecure,
        )
        return open_session(access, timeout_s=timeout_s, client_id=client_id)

    return connect
