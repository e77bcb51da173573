"""Environments in real time from what was asked for."""

from __future__ import annotations

from raygym.core import Backend
from raygym.environments.backends import choose_backend
from raygym.environments.settings import Settings
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.slot import Slot


def realtime_backend(settings: Settings) -> tuple[Backend, bool]:
    """Returns where Remotes in real time come from, and whether it belongs to the caller."""
    needs = settings.needs("realtime")
    return choose_backend(settings.backend, needs, settings.addresses, settings.allocator)


def realtime_env(
    settings: Settings, backend: Backend, client_id: str, *, is_own: bool = False
) -> RealtimeEnv:
    """Returns an environment in real time; its Remote starts with the first ``reset``.

    Args:
        settings: What was asked for.
        backend: Where its Remote comes from.
        client_id: On whose behalf.
        is_own: Whether the backend is closed with it.

    Raises:
        ConfigError: A setting makes no sense.
    """
    config = settings.slot_config(client_id)
    return RealtimeEnv(
        Slot(config, backend),
        fps=config.spec.fps if settings.fps is None else settings.fps,
        render_mode=settings.render_mode,
        backend=backend if is_own else None,
    )
