"""``make`` and ``make_vec``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from raygym.config import DockerConfig, ObservationConfig, TlsFiles, VncOptions
from raygym.core import Backend
from raygym.environments.backends import BackendName, choose_backend
from raygym.environments.lockstep import lockstep_backend, lockstep_env
from raygym.environments.settings import Mode, Settings
from raygym.errors import ConfigError
from raygym.remote_env.lockstep_env import LockstepEnv
from raygym.remote_env.lockstep_vector import LockstepVectorEnv
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.realtime_vector import RealtimeVectorEnv
from raygym.remote_env.slot import Slot

_MOST_AT_ONCE = 32


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
) -> RealtimeEnv | LockstepEnv:
    """Makes an environment of one Remote, which starts with the first ``reset``.

    One of Gymnasium's own in lock-step starts it at once, to learn its spaces.

    Args:
        env_id: As in the catalog: ``flashgames.NeonRace-v0``; or ``gym-core.`` and an id of
            Gymnasium's: ``gym-core.CartPole-v1``.
        remotes: 1, or an address as in ``raygym.remote_env.address``; further addresses
            take over when one is lost. None takes the variable RAYGYM_REMOTES, else 1.
        client_id: On whose behalf, steady across restarts; None makes one up.
        backend: ``docker`` (containers), ``process`` (processes of this machine), ``auto``
            (docker where an engine and the image are there, else process), ``fake`` (inside
            this process, in real time), ``static`` (addresses). None takes ``static`` for
            addresses, else the variable RAYGYM_BACKEND, else ``auto``. A Backend is used as
            it is and stays open; its Remotes must be of the mode.
        docker: How containers are leased and kept; for the backend ``docker``.
        mode: ``lockstep``: the environment stands still between steps, and the same seed and
            actions give the same episode. ``realtime``: it runs on. None takes what the
            addresses call for, else the Runtime's first mode in the catalog.
        actions: ``discrete`` (the catalog's key sets) or ``events`` (Universe's; real time).
        observation: Scale and colours; None keeps the region as it is.
        fps: Steps a second in real time; None takes the environment's own, ``math.inf`` ends
            each step at the next frame.
        frame_skip: Frames of one step in lock-step, the action held; None takes 1.
        vnc_kwargs: Encodings and quality, as in Universe; None takes what suits. Real time.
        env_kwargs: For ``gymnasium.make`` at the far end, of ``gym-core`` in lock-step.
        tls: Files for ``grpcs://``; None takes the system's authorities. Lock-step.
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
    settings = Settings(**locals())
    if settings.count != 1 and not settings.addresses:
        raise ConfigError(
            f"remotes: make drives one remote, got {settings.count}; "
            f"use raygym.make_vec({env_id!r}, remotes={settings.count})"
        )
    if settings.owner_of_time() == "lockstep":
        used, is_own = lockstep_backend(settings)
        close_also = used.close if is_own else _nothing
        try:
            return lockstep_env(settings, used, settings.name, close_also)
        except BaseException:
            close_also()
            raise
    config = settings.slot_config(settings.name)
    used, is_own = _realtime_backend(settings)
    return RealtimeEnv(
        Slot(config, used),
        fps=config.spec.fps if fps is None else fps,
        render_mode=render_mode,
        backend=used if is_own else None,
    )


def make_vec(
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
) -> RealtimeVectorEnv | LockstepVectorEnv:
    """Makes a vector environment of one slot per Remote, driven from this process.

    In real time no slot waits for another; in lock-step a step waits for the slowest.

    Args:
        env_id: See ``make``.
        remotes: A count, or addresses: one slot each.
        client_id: See ``make``; slots append their index.
        backend: See ``make``.
        docker: See ``make``.
        mode: See ``make``.
        actions: See ``make``.
        observation: See ``make``.
        fps: See ``make``.
        frame_skip: See ``make``.
        vnc_kwargs: See ``make``.
        env_kwargs: See ``make``.
        tls: See ``make``.
        is_insecure: See ``make``.
        start_timeout_s: See ``make``.
        silence_timeout_s: See ``make``.
        step_timeout_s: See ``make``.
        render_mode: See ``make``.

    Raises:
        ConfigError: A setting makes no sense, or does not go with the mode.
        RemoteError: A Remote was needed at once, and did not get ready.
    """
    settings = Settings(**locals())
    names = [f"{settings.name}-{i}" for i in range(settings.count)]
    if settings.owner_of_time() == "lockstep":
        return _lockstep_vector(settings, names)
    configs = [settings.slot_config(name) for name in names]
    used, is_own = _realtime_backend(settings)
    return RealtimeVectorEnv(
        [Slot(config, used) for config in configs],
        fps=configs[0].spec.fps if fps is None else fps,
        render_mode=render_mode,
        backend=used if is_own else None,
    )


def make_registered(**kwargs: Any) -> RealtimeEnv | LockstepEnv:
    """Entry point of ``gymnasium.make``; takes the arguments of ``make``."""
    return make(**kwargs)


def make_vec_registered(
    *, num_envs: int = 1, **kwargs: Any
) -> RealtimeVectorEnv | LockstepVectorEnv:
    """Entry point of ``gymnasium.make_vec``; ``num_envs`` stands for ``remotes``."""
    return make_vec(**{"remotes": num_envs, **kwargs})


def _lockstep_vector(settings: Settings, names: list[str]) -> LockstepVectorEnv:
    used, is_own = lockstep_backend(settings)
    close_also = used.close if is_own else _nothing
    try:
        makers = [partial(lockstep_env, settings, used, name) for name in names]
        envs = _side_by_side(makers)
        return LockstepVectorEnv(envs, close_also=close_also)
    except BaseException:
        close_also()
        raise


def _side_by_side(makers: Sequence[Callable[[], LockstepEnv]]) -> list[LockstepEnv]:
    """Makes environments at the same time: one of Gymnasium's own starts its Remote at once."""
    with ThreadPoolExecutor(min(len(makers), _MOST_AT_ONCE)) as pool:
        futures = [pool.submit(maker) for maker in makers]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                if not future.cancel() and future.exception() is None:
                    future.result().close()
            raise


def _realtime_backend(settings: Settings) -> tuple[Backend, bool]:
    return choose_backend(settings.backend, settings.needs("realtime"), settings.addresses)


def _nothing() -> None:
    """Closes what belongs to somebody else: not at all."""
