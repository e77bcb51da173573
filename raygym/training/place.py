"""Where an environment is played, and who owns time there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from raygym import gym_ids
from raygym.catalog import EnvSpec, load_catalog
from raygym.core import Remote
from raygym.environments.backends import BackendChoice, BackendName, resolve_backend
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.training.config import TrainConfig
from raygym.training.presets import FLASH_FRAME_SKIP


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the environment is played."""

    spec: EnvSpec
    """Its entry in the catalog."""
    asked: int | None
    """Number of slots, where it was said."""
    addresses: tuple[str, ...] | None
    """Of remotes that are there already."""
    allocator: str | None
    """Address of who lends them."""
    backend: BackendChoice
    """What makes the remotes."""


def find_place(config: TrainConfig) -> Place:
    """Looks up the environment and where it is to be played.

    Raises:
        ConfigError: There is no such environment, an address is malformed, there are fewer
            addresses than slots, or it has no screen and was to be played on one.
    """
    spec, is_plain = find_spec(config.env)
    asked, addresses = _slots(config)
    allocator = _allocator(config.remotes)
    choice = (
        BackendChoice("local", "one of Gymnasium's own ids")
        if is_plain
        else resolve_backend(
            config.backend,
            spec.runtime,
            has_addresses=addresses is not None,
            has_allocator=allocator is not None,
        )
    )
    _check_screen(config, spec, choice)
    return Place(spec=spec, asked=asked, addresses=addresses, allocator=allocator, backend=choice)


def find_spec(env: str) -> tuple[EnvSpec, bool]:
    """Returns an environment, and whether it was named by one of Gymnasium's own ids.

    Raises:
        ConfigError: Neither the catalog nor Gymnasium knows it, or it is one of Atari's and
            its emulator is not installed.
    """
    catalog = load_catalog()
    is_plain = env not in catalog.envs and not env.startswith(GYM_CORE_PREFIX) and _is_gym_id(env)
    return catalog.env(f"{GYM_CORE_PREFIX}{env}" if is_plain else env), is_plain


def _is_gym_id(env: str) -> bool:
    try:
        gym_ids.find(env)
    except gym_ids.AtariMissing:
        return True
    except ConfigError:
        return False
    return True


def lockstep_frames(
    spec: EnvSpec,
    *,
    mode: Literal["lockstep", "realtime"] | None,
    frame_skip: int | None,
    fps: float | None,
    needs_realtime: bool,
) -> int | None:
    """Returns the frames of one step, or None where the environment owns time.

    Args:
        spec: The environment.
        mode: As it was asked for; None takes lock-step where it can be had.
        frame_skip: As it was asked for.
        fps: As it was asked for.
        needs_realtime: Whether the remotes are of a kind that has no lock-step.

    Raises:
        ConfigError: What was asked for does not go together.
    """
    can = "lockstep" in load_catalog().runtime(spec.runtime).modes and not needs_realtime
    if mode is None:
        mode = "lockstep" if can and fps is None else "realtime"
    if mode == "realtime":
        if frame_skip is not None:
            raise ConfigError("--frame-skip: frames are skipped in lock-step only")
        return None
    if not can:
        raise ConfigError(
            f"{spec.id} cannot be had in lock-step on these remotes; use --mode realtime"
        )
    if fps is not None:
        raise ConfigError("--fps: steps have no rate in lock-step; drop it or use --mode realtime")
    return frame_skip or (FLASH_FRAME_SKIP if spec.runtime == "flashgames" else 1)


def needs_realtime(remotes: int | str | None, backend: BackendName | None) -> bool:
    """Returns whether remotes are of a kind that has no lock-step.

    Args:
        remotes: As ``raygym.make`` takes it.
        backend: What makes them.

    Raises:
        ConfigError: ``remotes`` is malformed.
    """
    parsed = parse_remotes(remotes)
    if isinstance(parsed, RemoteCount):
        return backend == "fake"
    if isinstance(parsed, AllocatorAddress):
        return False
    return any(remote.rpc is None for remote in parsed)


def _check_screen(config: TrainConfig, spec: EnvSpec, choice: BackendChoice) -> None:
    if choice.name == "local" and config.mode == "realtime":
        raise ConfigError(
            f"--mode realtime: {config.env} is made in the actors themselves here and has no "
            f"screen; --env {spec.id} with --backend process or docker is played on one"
        )


def _slots(config: TrainConfig) -> tuple[int | None, tuple[str, ...] | None]:
    """Returns how many slots were asked for, if any, and their addresses."""
    asked = config.num_slots or config.workers
    flag = "--num-slots" if config.num_slots else "--workers"
    if config.remotes is None:
        return asked, None
    remotes = parse_remotes(config.remotes)
    if isinstance(remotes, AllocatorAddress):
        if None not in (asked, remotes.count) and asked != remotes.count:
            raise ConfigError(f"{flag} {asked} and n={remotes.count} in --remotes disagree")
        return asked or remotes.count, None
    if isinstance(remotes, RemoteCount):
        if asked not in (None, remotes.count) and (config.num_slots or config.algo != "a3c"):
            raise ConfigError(
                f"{flag} {asked} and --remotes {remotes.count} disagree: each slot has one "
                "remote; give one of them"
            )
        if config.workers is not None and config.workers > remotes.count:
            raise ConfigError(
                f"--workers {config.workers} and --remotes {remotes.count} disagree: each worker "
                "has one remote or more"
            )
        return remotes.count, None
    slots = asked or len(remotes)
    if slots > len(remotes):
        raise ConfigError(
            f"{flag} {slots} needs as many addresses in --remotes, got {len(remotes)}"
        )
    return slots, tuple(_address(remote) for remote in remotes)


def _allocator(remotes: int | str | None) -> str | None:
    """Returns the address of who lends the remotes, without a count, if that was given."""
    parsed = None if remotes is None else parse_remotes(remotes)
    if not isinstance(parsed, AllocatorAddress):
        return None
    return parsed.without_token + parsed.token_query


def _address(remote: Remote) -> str:
    """Returns an address of one remote that ``parse_remotes`` reads back."""
    if remote.id.startswith("unix:"):
        return remote.id
    address = remote.id if remote.rpc else f"vnc://{remote.id.removeprefix('vnc://')}"
    if remote.password is None:
        return address
    return f"{address}?password={quote(remote.password.reveal(), safe='')}"
