"""What a run needs to know of its environment before anything is started."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np

from raygym import gym_ids
from raygym.catalog import EnvSpec
from raygym.config import ObservationConfig
from raygym.environments.backends import BackendChoice
from raygym.errors import ConfigError
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import NetworkConfig
from raygym.training.config import RLLIB_ALGOS, TrainConfig
from raygym.training.factories import EnvFactory, EnvSettings, make_env
from raygym.training.place import find_place, lockstep_frames, needs_realtime
from raygym.training.presets import (
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
    place = find_place(config)
    spec = place.spec
    frame_skip = lockstep_frames(
        spec,
        mode=config.mode,
        frame_skip=config.frame_skip,
        fps=config.fps,
        needs_realtime=needs_realtime(config.remotes, place.backend.name),
    )
    sight = _sight(config, spec, is_lockstep=frame_skip is not None)
    preset = sight.preset
    num_slots = place.asked or preset.num_slots
    fps = config.fps or preset.fps
    settings = EnvSettings(
        env=config.env,
        addresses=place.addresses,
        client_id=config.client_id,
        backend=place.backend.name,
        observation=sight.observation,
        fps=fps,
        frame_skip=frame_skip,
        allocator=place.allocator,
    )
    return Plan(
        spec=spec,
        env_factory=functools.partial(make_env, settings),
        workers=num_slots,
        actors=_actors(config, num_slots, is_local=place.backend.name == "local"),
        observation=sight.observation,
        network=_network(config, spec, sight),
        fps=fps,
        frame_skip=frame_skip,
        reward_scale=config.reward_scale or default_reward_scale(spec),
        seeds_every_episode=config.seed_episodes,
        backend=place.backend,
        make_kwargs={
            **settings.make_kwargs(),
            "remotes": config.remotes if place.addresses else place.allocator,
        },
        frame_stack=sight.frame_stack,
        learners=config.num_learners or learner_count(num_slots),
        batched=config.batched.over(preset.batched),
    )


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What the agent sees of it, and how it remembers that."""

    memory: Memory
    own: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None
    """The environment's own spaces, where they are learned in without a screen."""
    preset: Preset
    observation: ObservationConfig | None
    frame_stack: int


def _sight(config: TrainConfig, spec: EnvSpec, *, is_lockstep: bool) -> _Sight:
    has_lstm = config.algo == "a3c" and config.frame_stack in (None, 1)
    memory: Memory = "lstm" if has_lstm else "frames"
    shown = own_spaces(spec) if is_lockstep else None
    own = shown if memory == "frames" else None
    sees_vectors = own is not None and len(own[0].shape or ()) == 1 and not config.height_px
    preset = preset_of(spec, is_lockstep=is_lockstep, memory=memory, sees_vectors=sees_vectors)
    if preset.observation is not None and shown is not None:
        _check_picture(spec, shown[0])
    return _Sight(
        memory=memory,
        own=own,
        preset=preset,
        observation=_observation(config, preset),
        frame_stack=config.frame_stack or preset.frame_stack,
    )


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


def _check_picture(spec: EnvSpec, space: gymnasium.Space[Any]) -> None:
    dimensions = len(space.shape or ())
    if dimensions not in (2, 3) or space.dtype != np.uint8:
        way = "--algo batched without --height-px learns from that, and " if dimensions == 1 else ""
        raise ConfigError(
            f"{spec.id}: pictures are to be learned from, but in lock-step it shows {space}; "
            f"{way}with --env {spec.id} --mode realtime it is played on a screen"
        )


def _network(config: TrainConfig, spec: EnvSpec, sight: _Sight) -> NetworkConfig | None:
    if config.algo in RLLIB_ALGOS:
        return None
    own, observation = sight.own, sight.observation
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
        sight.preset,
        observation_shape=(*shape[:-1], shape[-1] * sight.frame_stack),
        action_count=int(actions.n),
        memory=sight.memory,
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
