"""``make``: one environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from raygym.config import DockerConfig, ObservationConfig, TlsFiles, VncOptions
from raygym.core import Backend
from raygym.environments.backends import BackendName
from raygym.environments.local import LocalEnv
from raygym.environments.settings import Mode, Settings
from raygym.errors import ConfigError

if TYPE_CHECKING:
    from raygym.remote_env.lockstep_env import LockstepEnv
    from raygym.remote_env.realtime_env import RealtimeEnv

AnyEnv: TypeAlias = "RealtimeEnv | LockstepEnv | LocalEnv"
"""What ``make`` returns: in real time, in lock-step, or without a Remote."""


def make(
    env_id: str,
    *,
    remotes: int | str | None = None,
    client_id: str | None = None,
    backend: BackendName | Backend | None = None,
    docker: DockerConfig | None = None,
    mode: Mode | None = None,
    actions: Literal["discrete", "events"] = "discrete",
    observation: ObservationConfig | None = None,
    fps: float | None = None,
    frame_skip: int | None = None,
    vnc_kwargs: VncOptions | Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    tls: TlsFiles | None = None,
    is_insecure: bool = False,
    start_timeout_s: float = 60.0,
    silence_timeout_s: float = 10.0,
    step_timeout_s: float = 70.0,
    render_mode: str | None = None,
) -> AnyEnv:
    """Makes an environment of one Remote, which starts with the first ``reset``.

    One of Gymnasium's own in lock-step starts it at once, to learn its spaces.

    Args:
        env_id: As in the catalog: ``flashgames.NeonRace-v0``; or ``gym-core.`` and an id of
            Gymnasium's: ``gym-core.CartPole-v1``. A plain id of Gymnasium's, ``CartPole-v1``,
            runs without a Remote.
        remotes: 1, or an address as in ``raygym.remote_env.address``; further addresses
            take over when one is lost. ``http://`` is that of a gateway which lends Remotes.
            None takes the variable RAYGYM_REMOTES, else 1.
        client_id: On whose behalf, steady across restarts; None makes one up.
        backend: ``docker`` (containers), ``process`` (processes of this machine), ``auto``
            (docker where an engine and the image are there, else process), ``fake`` (inside
            this process, in real time), ``static`` (addresses), ``allocator`` (lent by a
            gateway), ``local`` (no Remote: one of Gymnasium's own runs right here). None takes
            what suits the addresses, else the variable RAYGYM_BACKEND, else ``auto``. A Backend
            is used as it is and stays open; its Remotes must be of the mode.
        docker: How containers are leased and kept; for the backend ``docker``.
        mode: ``lockstep``: the environment stands still between steps, and the same seed and
            actions give the same episode. ``realtime``: it runs on. None takes what the
            addresses call for, else the Runtime's first mode in the catalog.
        actions: ``discrete`` (the catalog's key sets) or ``events`` (Universe's; real time).
        observation: Crop, scale and colours; None keeps the picture as it is.
        fps: Steps a second in real time; None takes the environment's own, ``math.inf`` ends
            each step at the next frame.
        frame_skip: Frames of one step in lock-step, the action held; None takes 1.
        vnc_kwargs: Encodings and quality, as in Universe; None takes what suits. Real time.
        env_kwargs: For ``gymnasium.make`` at the far end, of ``gym-core`` in lock-step.
        tls: Files for ``grpcs://`` and ``https://``; None takes the system's authorities.
        is_insecure: Whether ``grpc://`` may send plaintext to another machine. Lock-step.
        start_timeout_s: Longest time until a Remote is ready, and of a reset.
        silence_timeout_s: After this long without any message a Remote in real time counts
            as lost.
        step_timeout_s: Longest wait for a step in lock-step.
        render_mode: ``rgb_array`` or None.

    Raises:
        ConfigError: A setting makes no sense, or does not go with the mode.
        RemoteError: A Remote was needed at once, and did not get ready.
    """
    return make_one(Settings(**locals()))


def make_one(settings: Settings, client_id: str | None = None) -> AnyEnv:
    """Makes one environment; see ``make``.

    Args:
        settings: What was asked for.
        client_id: On whose behalf; None takes the name of the settings.
    """
    if settings.is_local:
        return LocalEnv(settings.local_config)
    if client_id is None and settings.count != 1 and not settings.addresses:
        raise ConfigError(
            f"remotes: make drives one remote, got {settings.count}; "
            f"use raygym.make_vec({settings.env_id!r}, remotes={settings.count})"
        )
    name = client_id or settings.name
    if settings.owner_of_time() == "lockstep":
        from raygym.environments.lockstep import lockstep_backend, lockstep_env

        used, is_own = lockstep_backend(settings)
        close_also: Callable[[], None] = used.close if is_own else lambda: None
        try:
            return lockstep_env(settings, used, name, close_also)
        except BaseException:
            close_also()
            raise
    from raygym.environments.realtime import realtime_backend, realtime_env

    settings.slot_config(name)
    used, is_own = realtime_backend(settings)
    return realtime_env(settings, used, name, is_own=is_own)


def make_registered(**kwargs: Any) -> AnyEnv:
    """Entry point of ``gymnasium.make``; takes the arguments of ``make``."""
    return make(**kwargs)
