"""What a run needs to know of its environment before anything is started."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import gymnasium
import numpy as np

from raygym import gym_ids
from raygym.catalog import EnvSpec, load_catalog
from raygym.config import ObservationConfig
from raygym.core import Remote
from raygym.environments.backends import BackendChoice, BackendName, resolve_backend
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import NetworkConfig
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.training.config import RLLIB_ALGOS, TrainConfig
from raygym.training.factories import EnvFactory, EnvSettings, make_env
from raygym.training.presets import (
    FLASH_FRAME_SKIP,
    Memory,
    Preset,
    learner_count,
    network_for,
    preset_of,
)

LEARNED_CEILING = 100.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An environment as the learner sees it."""

    spec: EnvSpec
    """Its entry in the catalog."""
    env_factory: EnvFactory
    """Makes it."""
    workers: int
    """Number of slots."""
    observation: ObservationConfig | None
    """How its screen becomes an observation; None for the environment's own vectors."""
    network: NetworkConfig | None
    """The network that fits it; None for RLlib, which has its own."""
    fps: float | None
    """Agent steps a second in real time; None for its own."""
    reward_scale: float
    """Factor between a reward and what is learned from."""
    frame_skip: int | None = None
    """Frames of one step in lock-step; None for real time."""
    seeds_every_episode: bool = False
    """Whether each episode is reset with a seed."""
    backend: BackendChoice = field(default_factory=lambda: BackendChoice("process"))
    """What makes the remotes."""
    actors: int | None = None
    """Number of A3C's actors, which share the slots; None for one each."""
    make_kwargs: Mapping[str, Any] | None = None
    """Arguments of ``raygym.make_vec`` for all slots; None where environments come from
    ``env_factory`` alone."""
    frame_stack: int = 1
    """Observations seen at once."""
    learners: int = 1
    """Number of batched learners."""
    batched: BatchedConfig = field(default_factory=BatchedConfig)
    """Constants of the batched learner."""

    @property
    def mode(self) -> Literal["lockstep", "realtime"]:
        """Who owns time."""
        return "realtime" if self.frame_skip is None else "lockstep"

    def own_network(self) -> NetworkConfig:
        """Returns the network of a built-in learner.

        Raises:
            ConfigError: The plan is for RLlib.
        """
        if self.network is None:
            raise ConfigError(f"{self.spec.id}: this plan has no network; it is for RLlib")
        return self.network

    def pace(self) -> str:
        """Says who owns time, for a person."""
        if self.frame_skip is None:
            return f"real time, {self.fps or self.spec.fps:g} steps a second"
        return f"lock-step, {self.frame_skip} frames a step"


def make_plan(config: TrainConfig) -> Plan:
    """Looks up the environment and checks the settings against it.

    Raises:
        ConfigError: There is no such environment, an address is malformed, or there are
            fewer addresses than slots.
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
    frame_skip = lockstep_frames(
        spec,
        mode=config.mode,
        frame_skip=config.frame_skip,
        fps=config.fps,
        needs_realtime=needs_realtime(config.remotes, choice.name),
    )
    has_lstm = config.algo == "a3c" and config.frame_stack in (None, 1)
    memory: Memory = "lstm" if has_lstm else "frames"
    shown = own_spaces(spec) if frame_skip is not None else None
    own = shown if memory == "frames" else None
    sees_vectors = own is not None and len(own[0].shape or ()) == 1 and not config.height_px
    preset = preset_of(
        spec, is_lockstep=frame_skip is not None, memory=memory, sees_vectors=sees_vectors
    )
    if preset.observation is not None and shown is not None:
        _check_picture(spec, shown[0])
    num_slots = asked or preset.num_slots
    stack = config.frame_stack or preset.frame_stack
    observation = _observation(config, preset)
    fps = config.fps or preset.fps
    settings = EnvSettings(
        env=config.env,
        addresses=addresses,
        client_id=config.client_id,
        backend=choice.name,
        observation=observation,
        fps=fps,
        frame_skip=frame_skip,
        allocator=allocator,
    )
    return Plan(
        spec=spec,
        env_factory=functools.partial(make_env, settings),
        workers=num_slots,
        actors=_actors(config, num_slots, is_local=choice.name == "local"),
        observation=observation,
        network=_network(config, spec, preset, observation, own, stack, memory),
        fps=fps,
        frame_skip=frame_skip,
        reward_scale=config.reward_scale or default_reward_scale(spec),
        seeds_every_episode=config.seed_episodes,
        backend=choice,
        make_kwargs={
            **settings.make_kwargs(),
            "remotes": config.remotes if addresses else allocator,
        },
        frame_stack=stack,
        learners=config.num_learners or learner_count(num_slots),
        batched=config.batched.over(preset.batched),
    )


def find_spec(env: str) -> tuple[EnvSpec, bool]:
    """Returns an environment, and whether it was named by one of Gymnasium's own ids.

    Raises:
        ConfigError: Neither the catalog nor Gymnasium knows it.
    """
    catalog = load_catalog()
    is_plain = env not in catalog.envs and not env.startswith(GYM_CORE_PREFIX) and _is_gym_id(env)
    return catalog.env(f"{GYM_CORE_PREFIX}{env}" if is_plain else env), is_plain


def _is_gym_id(env: str) -> bool:
    try:
        gym_ids.find(env)
    except ConfigError:
        return False
    return True


def own_spaces(
    spec: EnvSpec,
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None:
    """Returns what one of Gymnasium's environments shows and takes by itself.

    Returns:
        Observation and action space; None for an environment of another runtime.
    """
    if spec.runtime != "gym-core":
        return None
    env = gym_ids.make(spec.id)
    spaces = env.observation_space, env.action_space
    # Gymnasium leaves it without annotations.
    env.close()  # type: ignore[no-untyped-call]
    return spaces


def _check_screen(config: TrainConfig, spec: EnvSpec, choice: BackendChoice) -> None:
    if choice.name == "local" and config.mode == "realtime":
        raise ConfigError(
            f"--mode realtime: {config.env} is made in the actors themselves here and has no "
            f"screen; --env {spec.id} with --backend process or docker is played on one"
        )


def _check_picture(spec: EnvSpec, space: gymnasium.Space[Any]) -> None:
    dimensions = len(space.shape or ())
    if dimensions not in (2, 3) or space.dtype != np.uint8:
        way = "--algo batched without --height-px learns from that, and " if dimensions == 1 else ""
        raise ConfigError(
            f"{spec.id}: pictures are to be learned from, but in lock-step it shows {space}; "
            f"{way}with --env {spec.id} --mode realtime it is played on a screen"
        )


def _network(
    config: TrainConfig,
    spec: EnvSpec,
    preset: Preset,
    observation: ObservationConfig | None,
    own: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None,
    frame_stack: int,
    memory: Memory,
) -> NetworkConfig | None:
    if config.algo in RLLIB_ALGOS:
        return None
    actions = gymnasium.spaces.Discrete(len(spec.actions)) if own is None else own[1]
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise ConfigError(
            f"{spec.id}: the built-in learners take Discrete actions, it has {actions}; RLlib's "
            "take others too: --algo ppo"
        )
    shape = _shape(spec, observation)
    if observation is None and own is not None:
        shape = tuple(own[0].shape or ())
    return network_for(
        preset,
        observation_shape=(*shape[:-1], shape[-1] * frame_stack),
        action_count=int(actions.n),
        memory=memory,
    )


def _observation(config: TrainConfig, preset: Preset) -> ObservationConfig | None:
    seen = preset.observation
    if seen is None:
        return None
    return ObservationConfig(
        height_px=config.height_px or seen.height_px,
        width_px=config.width_px or seen.width_px,
        crop=config.crop or seen.crop,
        is_grey=not config.colour,
    )


def _shape(spec: EnvSpec, observation: ObservationConfig | None) -> tuple[int, ...]:
    seen = observation or ObservationConfig()
    _, _, width, height = seen.crop or (0, 0, spec.region.width, spec.region.height)
    return (seen.height_px or height, seen.width_px or width, 1 if seen.is_grey else 3)


def _actors(config: TrainConfig, num_slots: int, *, is_local: bool) -> int:
    if config.workers is not None and config.workers > num_slots:
        raise ConfigError(
            f"--workers {config.workers} share {num_slots} slots; give more --num-slots, or fewer "
            "workers"
        )
    return config.workers or (learner_count(num_slots) if is_local else num_slots)


def default_reward_scale(spec: EnvSpec) -> float:
    """Returns the factor that sets the ceiling 100 above the floor; never more than 1."""
    if spec.score_floor is None or spec.score_ceiling is None:
        return 1.0
    return min(1.0, LEARNED_CEILING / (spec.score_ceiling - spec.score_floor))


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
