"""``make`` and ``make_vec``: from an EnvId to a running environment."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from raygym.catalog import load_catalog
from raygym.config import ObservationConfig, VncOptions
from raygym.core import Backend, Remote
from raygym.errors import ConfigError
from raygym.registration import register_all
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.remote_env.env import RemoteEnv
from raygym.remote_env.fake_backend import FakeBackend, InProcess
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.slot import Slot
from raygym.remote_env.slot_config import SlotConfig
from raygym.remote_env.static_backend import StaticBackend
from raygym.remote_env.vector import RemoteVectorEnv

__all__ = [
    "make",
    "make_backend",
    "make_registered",
    "make_vec",
    "make_vec_registered",
    "register_all",
]

BackendName = Literal["process", "fake", "static"]


def make(
    env_id: str,
    *,
    remotes: int | str | None = None,
    client_id: str | None = None,
    backend: BackendName | Backend | None = None,
    actions: Literal["discrete", "events"] = "discrete",
    observation: ObservationConfig | None = None,
    fps: float | None = None,
    vnc_kwargs: VncOptions | Mapping[str, Any] | None = None,
    start_timeout_s: float = 60.0,
    silence_timeout_s: float = 10.0,
    render_mode: str | None = None,
) -> RemoteEnv:
    """Makes an environment of one Remote. The Remote starts with the first ``reset``.

    Args:
        env_id: As in the catalog: ``flashgames.NeonRace-v0``.
        remotes: 1, or an address as in ``raygym.remote_env.address``; further addresses
            take over when one is lost. None takes the variable RAYGYM_REMOTES, else 1.
        client_id: On whose behalf, steady across restarts; None makes one up.
        backend: ``process`` (processes of this machine), ``fake`` (inside this process),
            ``static`` (addresses); None takes what ``remotes`` calls for. A Backend is
            used as it is and stays open.
        actions: ``discrete`` (the catalog's key sets) or ``events`` (Universe's).
        observation: Scale and colours; None keeps the region as it is.
        fps: Steps a second; None takes the environment's own, ``math.inf`` ends each step
            at the next frame.
        vnc_kwargs: Encodings and quality, as in Universe; None takes what suits.
        start_timeout_s: Longest time until a Remote shows its first frame.
        silence_timeout_s: After this long without any message a Remote counts as lost.
        render_mode: ``rgb_array`` or None.

    Raises:
        ConfigError: A setting makes no sense.
    """
    parsed = parse_remotes(remotes)
    if isinstance(parsed, RemoteCount) and parsed.count != 1:
        raise ConfigError(
            f"remotes: make drives one remote, got {parsed.count}; "
            f"use raygym.make_vec({env_id!r}, remotes={parsed.count})"
        )
    config = _config(
        env_id, client_id, actions, observation, vnc_kwargs, start_timeout_s, silence_timeout_s
    )
    used, is_own = _backend(backend, parsed, start_timeout_s)
    return RemoteEnv(
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
    actions: Literal["discrete", "events"] = "discrete",
    observation: ObservationConfig | None = None,
    fps: float | None = None,
    vnc_kwargs: VncOptions | Mapping[str, Any] | None = None,
    start_timeout_s: float = 60.0,
    silence_timeout_s: float = 10.0,
    render_mode: str | None = None,
) -> RemoteVectorEnv:
    """Makes a vector environment of one slot per Remote, driven from this process.

    Args:
        env_id: As in the catalog.
        remotes: A count, or addresses: one slot each.
        client_id: See ``make``; slots append their index.
        backend: See ``make``.
        actions: See ``make``.
        observation: See ``make``.
        fps: Steps a second; None takes the environment's own.
        vnc_kwargs: See ``make``.
        start_timeout_s: See ``make``.
        silence_timeout_s: See ``make``.
        render_mode: See ``make``.

    Raises:
        ConfigError: A setting makes no sense.
    """
    parsed = parse_remotes(remotes)
    count = parsed.count if isinstance(parsed, RemoteCount) else len(parsed)
    name = client_id or _client_id()
    configs = [
        _config(
            env_id,
            f"{name}-{i}",
            actions,
            observation,
            vnc_kwargs,
            start_timeout_s,
            silence_timeout_s,
        )
        for i in range(count)
    ]
    used, is_own = _backend(backend, parsed, start_timeout_s)
    return RemoteVectorEnv(
        [Slot(config, used) for config in configs],
        fps=configs[0].spec.fps if fps is None else fps,
        render_mode=render_mode,
        backend=used if is_own else None,
    )


def make_registered(**kwargs: Any) -> RemoteEnv:
    """Entry point of ``gymnasium.make``; takes the arguments of ``make``."""
    return make(**kwargs)


def make_vec_registered(*, num_envs: int = 1, **kwargs: Any) -> RemoteVectorEnv:
    """Entry point of ``gymnasium.make_vec``; ``num_envs`` stands for ``remotes``."""
    return make_vec(**{"remotes": num_envs, **kwargs})


def make_backend(
    name: BackendName, *, remotes: Sequence[Remote] = (), start_timeout_s: float = 60.0
) -> Backend:
    """Makes a Backend by name; whoever calls this closes it.

    Args:
        name: ``process``, ``fake`` or ``static``.
        remotes: The addresses, for ``static`` only.
        start_timeout_s: Longest wait for a Remote to name its endpoints.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
    """
    if name not in ("process", "fake", "static"):
        raise ConfigError(f"backend: expected process, fake or static, got {name!r}")
    if (name == "static") != bool(remotes):
        raise ConfigError(
            f"backend={name!r}: "
            + (
                "starts remotes itself; drop the addresses in remotes="
                if remotes
                else "needs addresses, as in remotes='vnc://127.0.0.1:5900+15900'"
            )
        )
    if name == "process":
        return ProcessBackend(start_timeout_s=start_timeout_s)
    return FakeBackend(_in_process) if name == "fake" else StaticBackend(remotes)


def _in_process() -> InProcess:
    from raygym.runtimes.in_process import InProcessHost

    return InProcessHost()


def _backend(
    backend: BackendName | Backend | None,
    parsed: RemoteCount | Sequence[Remote],
    start_timeout_s: float,
) -> tuple[Backend, bool]:
    remotes = () if isinstance(parsed, RemoteCount) else parsed
    if any(remote.vnc is None for remote in remotes):
        raise ConfigError(
            f"remotes: {remotes[0].id} has no screen, and this environment is seen through "
            "one; give its port too, as in vnc://127.0.0.1:5900+15900"
        )
    if backend is None:
        backend = "static" if remotes else "process"
    if isinstance(backend, str):
        return make_backend(backend, remotes=remotes, start_timeout_s=start_timeout_s), True
    if remotes:
        raise ConfigError("give addresses in remotes= or a Backend, not both")
    return backend, False


def _config(
    env_id: str,
    client_id: str | None,
    actions: Literal["discrete", "events"],
    observation: ObservationConfig | None,
    vnc_kwargs: VncOptions | Mapping[str, Any] | None,
    start_timeout_s: float,
    silence_timeout_s: float,
) -> SlotConfig:
    catalog = load_catalog()
    spec = catalog.env(env_id)
    if isinstance(vnc_kwargs, Mapping):
        try:
            vnc_kwargs = VncOptions(**vnc_kwargs)
        except TypeError as error:
            known = ", ".join(VncOptions.__dataclass_fields__)
            raise ConfigError(f"vnc_kwargs: {error}; known: {known}") from None
    return SlotConfig(
        spec=spec,
        screen_px=catalog.runtime(spec.runtime).screen_px,
        client_id=client_id or _client_id(),
        actions=actions,
        observation=observation or ObservationConfig(),
        vnc_options=vnc_kwargs,
        start_timeout_s=start_timeout_s,
        silence_timeout_s=silence_timeout_s,
    )


def _client_id() -> str:
    return f"client-{secrets.token_hex(3)}"
