"""``make_slots``: many environments of one id, however they are best stepped together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, Unpack, get_args

import gymnasium

from raygym.environments.local import LocalConfig, LocalEnv
from raygym.environments.settings import MakeArguments, Settings
from raygym.errors import ConfigError
from raygym.vector.batch_slots import BatchSlots
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.process_slots import ProcessSlots
from raygym.vector.slot_record import EnvFactory
from raygym.vector.slots import Slots
from raygym.vector.stacked_slots import StackedSlots
from raygym.vector.supervision import Supervision
from raygym.vector.thread_slots import ThreadSlots

Vectorization: TypeAlias = Literal["auto", "inline", "processes", "threads", "batched"]
"""How slots are stepped: one after the other in this thread; in processes over shared memory;
each in a thread; or all by one message to one Remote."""

_LOCKSTEP_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class SlotsSettings:
    """How many slots, and how they are stepped; see ``make_slots``."""

    num_slots: int
    first_slot: int = 0
    frame_stack: int = 1
    vectorization: Vectorization = "auto"
    num_processes: int | None = None
    supervision: Supervision | None = None

    def __post_init__(self) -> None:
        if self.num_slots < 1:
            raise ConfigError(f"num_slots: expected 1 or more, got {self.num_slots!r}")
        if self.frame_stack < 1:
            raise ConfigError(f"frame_stack: expected 1 or more, got {self.frame_stack!r}")
        if self.vectorization not in get_args(Vectorization):
            known = ", ".join(get_args(Vectorization))
            raise ConfigError(f"vectorization: expected {known}, got {self.vectorization!r}")
        if self.num_processes is not None and self.vectorization not in ("auto", "processes"):
            raise ConfigError(
                f"num_processes: belongs to vectorization='processes', not {self.vectorization!r}"
            )


def make_slots(
    env_id: str,
    num_slots: int,
    *,
    first_slot: int = 0,
    frame_stack: int = 1,
    vectorization: Vectorization = "auto",
    num_processes: int | None = None,
    supervision: Supervision | None = None,
    **arguments: Unpack[MakeArguments],
) -> Slots:
    """Makes environments of one id that are stepped together; whoever calls this closes them.

    Args:
        env_id: See ``make``.
        num_slots: How many.
        first_slot: Number of the first among more slots that others make; only names of clients
            depend on it.
        frame_stack: How many frames make an observation, side by side along its last axis.
        vectorization: ``auto`` takes, for environments without a Remote, ``inline``, or
            ``processes`` where ``num_processes`` is given; for Gymnasium's own on Remotes in
            lock-step ``batched``, unless ``remotes`` says how many there are to be; for all
            others ``threads``.
        num_processes: How many processes share the slots.
        supervision: Deadlines, and what is done about slots that fail; not for ``inline`` and
            ``batched``, which have but the back-off. None takes what suits the timeouts.
        **arguments: See ``make``. Clients are called ``client_id`` and a slot's number.

    Raises:
        ConfigError: A setting makes no sense, or does not go with another.
        RemoteError: A Remote was needed at once, and did not get ready.
    """
    return slots_of(
        Settings(env_id=env_id, **arguments),
        SlotsSettings(
            num_slots=num_slots,
            first_slot=first_slot,
            frame_stack=frame_stack,
            vectorization=vectorization,
            num_processes=num_processes,
            supervision=supervision,
        ),
    )


def slots_of(settings: Settings, wanted: SlotsSettings) -> Slots:
    """Makes slots; see ``make_slots``."""
    slots = _unstacked(settings, wanted)
    if wanted.frame_stack == 1:
        return slots
    try:
        return StackedSlots(slots, wanted.frame_stack)
    except BaseException:
        slots.close()
        raise


@dataclass(frozen=True)
class LocalFactory:
    """Makes environments without a Remote; it pickles."""

    config: LocalConfig

    def __call__(self, _slot: int) -> gymnasium.Env[Any, Any]:
        """Makes that of a slot."""
        return LocalEnv(self.config)


@dataclass(frozen=True)
class RemoteFactory:
    """Makes an environment with a Remote and a backend of its own; it pickles."""

    settings: Settings
    name: str
    first_slot: int = 0

    def __call__(self, slot: int) -> gymnasium.Env[Any, Any]:
        """Makes that of a slot."""
        from raygym.environments.making import make_one

        return make_one(self.settings, f"{self.name}-{self.first_slot + slot}")


def _unstacked(settings: Settings, wanted: SlotsSettings) -> Slots:
    if settings.is_local:
        kind = wanted.vectorization
        if kind == "auto":
            kind = "inline" if wanted.num_processes is None else "processes"
        if kind == "batched":
            raise ConfigError("vectorization='batched' needs a remote that holds the environments")
        return _made(kind, LocalFactory(settings.local_config), settings, wanted)
    mode = settings.owner_of_time()
    kind = _kind_of_remotes(settings, wanted, mode)
    if kind == "batched":
        return _batched(settings, wanted)
    if kind == "processes":
        return _in_processes(settings, wanted)
    if settings.addresses and len(settings.addresses) < wanted.num_slots:
        raise ConfigError(
            f"remotes: {wanted.num_slots} slots need as many addresses, got "
            f"{len(settings.addresses)}"
        )
    factory, close_also = remote_factory(settings, mode, first_slot=wanted.first_slot)
    try:
        return _made(kind, factory, settings, wanted, close_also)
    except BaseException:
        close_also()
        raise


def _kind_of_remotes(settings: Settings, wanted: SlotsSettings, mode: str) -> Vectorization:
    kind = wanted.vectorization
    if kind == "auto":
        is_one = settings.remotes is None or len(settings.addresses) == 1
        is_batch = mode == "lockstep" and settings.is_gym_core and is_one
        return "batched" if is_batch and wanted.num_slots > 1 else "threads"
    if kind == "batched" and not (mode == "lockstep" and settings.is_gym_core):
        raise ConfigError(
            f"vectorization='batched': a remote of {settings.env_id} plays one environment in "
            f"{mode}; only gym-core in lock-step holds several"
        )
    if kind == "inline" and mode == "realtime" and wanted.num_slots > 1:
        raise ConfigError(
            "vectorization='inline': in real time each step takes its time, and slots would wait "
            "for each other; take threads"
        )
    return kind


def _batched(settings: Settings, wanted: SlotsSettings) -> Slots:
    from raygym.environments.lockstep import lockstep_backend, lockstep_batch

    used, is_own = lockstep_backend(settings)
    close_also = used.close if is_own else _nothing
    try:
        batch = lockstep_batch(
            settings, used, f"{settings.name}-{wanted.first_slot}", wanted.num_slots
        )
        supervision = wanted.supervision or supervision_of(settings)
        return BatchSlots(batch, supervision=supervision, close_also=close_also)
    except BaseException:
        close_also()
        raise


def _in_processes(settings: Settings, wanted: SlotsSettings) -> Slots:
    if settings.addresses or not (settings.backend is None or isinstance(settings.backend, str)):
        raise ConfigError(
            "vectorization='processes': each process starts remotes of its own, so it takes the "
            "name of a backend, and neither addresses nor a Backend; take threads"
        )
    # The client's name is chosen here, where it is the same for all.
    return _made(
        "processes", RemoteFactory(settings, settings.name, wanted.first_slot), settings, wanted
    )


def _made(
    kind: Vectorization,
    factory: EnvFactory,
    settings: Settings,
    wanted: SlotsSettings,
    close_also: Callable[[], None] = lambda: None,
) -> Slots:
    supervision = wanted.supervision or supervision_of(settings)
    if kind == "processes":
        return ProcessSlots(
            factory,
            wanted.num_slots,
            num_processes=wanted.num_processes,
            supervision=supervision,
        )
    if kind == "threads":
        return ThreadSlots(
            factory, wanted.num_slots, supervision=supervision, close_also=close_also
        )
    return InlineSlots(factory, wanted.num_slots, supervision=supervision, close_also=close_also)


def supervision_of(settings: Settings) -> Supervision:
    """Returns deadlines beyond those that environments keep themselves."""
    return Supervision(
        step_timeout_s=settings.step_timeout_s + 5.0,
        reset_timeout_s=2 * _LOCKSTEP_TRIES * settings.start_timeout_s + 15.0,
    )


def remote_factory(
    settings: Settings, mode: str, *, first_slot: int = 0
) -> tuple[EnvFactory, Callable[[], None]]:
    """Returns what makes environments over one backend, and what closes that."""
    name = settings.name
    if mode == "lockstep":
        from raygym.environments.lockstep import lockstep_backend, lockstep_env

        used, is_own = lockstep_backend(settings)
        one: Callable[[str], gymnasium.Env[Any, Any]] = partial(lockstep_env, settings, used)
    else:
        from raygym.environments.realtime import realtime_backend, realtime_env

        settings.slot_config(name)
        used, is_own = realtime_backend(settings)
        one = partial(realtime_env, settings, used)

    def make(slot: int) -> gymnasium.Env[Any, Any]:
        return one(f"{name}-{first_slot + slot}")

    return make, used.close if is_own else _nothing


def _nothing() -> None:
    """Closes what belongs to somebody else: not at all."""
