"""``make_vec``: many environments as one of Gymnasium's vector environments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias, Unpack

from gymnasium.vector import AutoresetMode

from raygym.environments.settings import MakeArguments, Settings
from raygym.environments.slots import SlotsSettings, Vectorization, slots_of
from raygym.errors import ConfigError
from raygym.remote_env.realtime_vector import RealtimeVectorEnv
from raygym.remote_env.slot import Slot
from raygym.vector.supervision import Supervision
from raygym.vector.vector_env import SlotVectorEnv

AnyVectorEnv: TypeAlias = SlotVectorEnv | RealtimeVectorEnv
"""What ``make_vec`` returns."""


def make_vec(
    env_id: str,
    num_envs: int | None = None,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    batch_size: int | None = None,
    frame_stack: int = 1,
    vectorization: Vectorization = "auto",
    num_processes: int | None = None,
    supervision: Supervision | None = None,
    **arguments: Unpack[MakeArguments],
) -> AnyVectorEnv:
    """Makes a vector environment.

    In lock-step, and without Remotes, it is a SlotVectorEnv: ``step`` waits for all, or, through
    ``async_reset``, ``recv`` and ``send``, for the first ``batch_size`` that are ready. In real
    time no slot waits for another.

    Args:
        env_id: See ``make``.
        num_envs: How many; None takes what ``remotes`` says.
        autoreset_mode: What follows the end of an episode: ``NextStep``, ``SameStep`` or
            ``Disabled``.
        batch_size: How many ``recv`` waits for; None for all.
        frame_stack: How many frames make an observation, along its last axis.
        vectorization: See ``make_slots``; ``auto`` takes ``processes`` for environments without
            a Remote, and ``threads`` where ``remotes`` was given.
        num_processes: See ``make_slots``.
        supervision: See ``make_slots``.
        **arguments: See ``make``. A count in ``remotes`` means the same as ``num_envs``, with a
            Remote for each; addresses are of one Remote each.

    Raises:
        ConfigError: A setting makes no sense, or does not go with another.
        RemoteError: A Remote was needed at once, and did not get ready.
    """
    settings = Settings(env_id=env_id, **arguments)
    mode = _autoreset_mode(autoreset_mode)
    wanted = SlotsSettings(
        num_slots=_count(settings, num_envs),
        frame_stack=frame_stack,
        vectorization=vectorization,
        num_processes=num_processes,
        supervision=supervision,
    )
    if settings.is_local:
        if vectorization == "auto":
            wanted = replace(wanted, vectorization="processes")
    elif settings.owner_of_time() == "realtime":
        is_plain = wanted == SlotsSettings(num_slots=wanted.num_slots) and batch_size is None
        if is_plain and mode is AutoresetMode.NEXT_STEP:
            return _in_real_time(settings, wanted.num_slots)
    slots = slots_of(settings, wanted)
    try:
        return SlotVectorEnv(
            slots,
            autoreset_mode=mode,
            batch_size=batch_size,
            render_mode=settings.render_mode,
            metadata={"render_modes": ["rgb_array"]},
        )
    except BaseException:
        slots.close()
        raise


def make_vec_registered(*, num_envs: int | None = None, **kwargs: Any) -> AnyVectorEnv:
    """Entry point of ``gymnasium.make_vec``; takes the arguments of ``make_vec``.

    Gymnasium gives 1 for ``num_envs`` where the caller gave none; ``remotes`` goes before that.
    """
    if num_envs == 1 and kwargs.get("remotes") is not None:
        num_envs = None
    return make_vec(num_envs=num_envs, **kwargs)


def _count(settings: Settings, num_envs: int | None) -> int:
    if num_envs is None:
        return settings.count
    if num_envs < 1:
        raise ConfigError(f"num_envs: expected 1 or more, got {num_envs!r}")
    is_one_address = len(settings.addresses) == 1
    if settings.is_counted and not is_one_address and settings.count != num_envs:
        raise ConfigError(
            f"num_envs={num_envs} and remotes={settings.remotes!r} disagree: each environment has "
            "a remote; give one of them"
        )
    return num_envs


def _autoreset_mode(asked: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(asked)
    except ValueError:
        known = ", ".join(mode.value for mode in AutoresetMode)
        raise ConfigError(f"autoreset_mode: expected {known}, got {asked!r}") from None


def _in_real_time(settings: Settings, count: int) -> RealtimeVectorEnv:
    from raygym.environments.realtime import realtime_backend

    configs = [settings.slot_config(f"{settings.name}-{i}") for i in range(count)]
    used, is_own = realtime_backend(settings)
    return RealtimeVectorEnv(
        [Slot(config, used) for config in configs],
        fps=configs[0].spec.fps if settings.fps is None else settings.fps,
        render_mode=settings.render_mode,
        backend=used if is_own else None,
    )
