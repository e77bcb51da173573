"""What a run needs to know of its environment before anything is started."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import gymnasium
import numpy as np
import ray
import torch

from raygym.catalog import EnvSpec, load_catalog
from raygym.config import ObservationConfig
from raygym.core import Backend, Remote, UInt8Array
from raygym.environments.backends import (
    BackendChoice,
    BackendName,
    RemoteNeeds,
    resolve_backend,
)
from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig, A3CPolicy
from raygym.policies.networks import NetworkConfig
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.training.config import TrainConfig

DEFAULT_WORKERS = 2
FLASH_FPS = 12.5
FLASH_FRAME_SKIP = 4
FLASH_OBSERVATION = ObservationConfig(height_px=128, width_px=200, is_grey=True)
"""Universe-starter-agent's."""
FLASH_LOCKSTEP_OBSERVATION = ObservationConfig(height_px=72, width_px=96, is_grey=True)
"""A quarter of that: in lock-step the learner, not the game, sets the pace."""
OTHER_OBSERVATION = ObservationConfig(height_px=42, width_px=42, is_grey=True)
LEARNED_CEILING = 100.0

EnvFactory = Callable[[int], gymnasium.Env[UInt8Array, Any]]
"""Makes the environment of a slot; must pickle."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An environment as the learner sees it."""

    spec: EnvSpec
    """Its entry in the catalog."""
    env_factory: EnvFactory
    """Makes it."""
    workers: int
    """Number of slots."""
    observation: ObservationConfig
    """How its screen becomes an observation."""
    network: NetworkConfig
    """The network that fits it."""
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

    @property
    def mode(self) -> Literal["lockstep", "realtime"]:
        """Who owns time."""
        return "realtime" if self.frame_skip is None else "lockstep"

    def pace(self) -> str:
        """Says who owns time, for a person."""
        if self.frame_skip is None:
            return f"real time, {self.fps or self.spec.fps:g} steps a second"
        return f"lock-step, {self.frame_skip} frames a step"


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """All that ``make_env`` needs; small, and it pickles."""

    env: str
    addresses: tuple[str, ...] | None
    client_id: str
    backend: BackendName | None
    observation: ObservationConfig
    fps: float | None
    frame_skip: int | None = None
    render_mode: Literal["rgb_array"] | None = None


def make_plan(config: TrainConfig) -> Plan:
    """Looks up the environment and checks the settings against it.

    Raises:
        ConfigError: There is no such environment, an address is malformed, or there are
            fewer addresses than workers.
    """
    spec = load_catalog().env(config.env)
    workers, addresses = _workers(config)
    choice = resolve_backend(config.backend, spec.runtime, has_addresses=addresses is not None)
    frame_skip = lockstep_frames(
        spec,
        mode=config.mode,
        frame_skip=config.frame_skip,
        fps=config.fps,
        needs_realtime=needs_realtime(config.remotes, choice.name),
    )
    observation, fps = default_view(spec, is_lockstep=frame_skip is not None)
    observation = ObservationConfig(
        height_px=config.height_px or observation.height_px,
        width_px=config.width_px or observation.width_px,
        is_grey=not config.colour,
    )
    fps = config.fps or fps
    settings = EnvSettings(
        env=config.env,
        addresses=addresses,
        client_id=config.client_id,
        backend=choice.name,
        observation=observation,
        fps=fps,
        frame_skip=frame_skip,
    )
    return Plan(
        spec=spec,
        env_factory=functools.partial(make_env, settings),
        workers=workers,
        observation=observation,
        network=NetworkConfig(
            observation_shape=(
                observation.height_px or spec.region.height,
                observation.width_px or spec.region.width,
                1 if observation.is_grey else 3,
            ),
            action_count=len(spec.actions),
        ),
        fps=fps,
        frame_skip=frame_skip,
        reward_scale=config.reward_scale or default_reward_scale(spec),
        seeds_every_episode=config.seed_episodes,
        backend=choice,
    )


def default_view(
    spec: EnvSpec, *, is_lockstep: bool = False
) -> tuple[ObservationConfig, float | None]:
    """Returns how an agent sees an environment unless told otherwise.

    Args:
        spec: The environment.
        is_lockstep: Whether it stands still between steps.

    Returns:
        The observation, and the steps a second in real time, None for the environment's own.
    """
    if spec.runtime == "flashgames":
        return (FLASH_LOCKSTEP_OBSERVATION if is_lockstep else FLASH_OBSERVATION), FLASH_FPS
    return OTHER_OBSERVATION, None


def default_reward_scale(spec: EnvSpec) -> float:
    """Returns the factor that sets the ceiling 100 above the floor; never more than 1."""
    if spec.score_floor is None or spec.score_ceiling is None:
        return 1.0
    return min(1.0, LEARNED_CEILING / (spec.score_ceiling - spec.score_floor))


def make_env(settings: EnvSettings, slot: int) -> gymnasium.Env[UInt8Array, Any]:
    """Makes the environment of a slot, with one remote of its own."""
    # Here, so that a plan costs the trainer's own process nothing.
    from raygym.environments import make

    mode: Literal["lockstep", "realtime"] = (
        "realtime" if settings.frame_skip is None else "lockstep"
    )
    backend: BackendName | Backend | None = settings.backend
    if backend == "docker" and ray.is_initialized():
        backend = _leased_on_ray(settings.env, mode)
    return make(
        settings.env,
        remotes=settings.addresses[slot] if settings.addresses else 1,
        client_id=f"{settings.client_id}-{slot}",
        backend=backend,
        observation=settings.observation,
        mode=mode,
        fps=settings.fps if settings.frame_skip is None else None,
        frame_skip=settings.frame_skip,
        render_mode=settings.render_mode,
    )


def _leased_on_ray(env_id: str, mode: Literal["lockstep", "realtime"]) -> Backend:
    """Returns containers whose leases the cluster's registry keeps; closed as the process ends."""
    from raygym.service.leased import leased_backend_on_ray

    needs = RemoteNeeds(runtime=load_catalog().env(env_id).runtime, env_id=env_id, mode=mode)
    return leased_backend_on_ray(variant=needs.variant, env_id=env_id)


def make_policy(
    network: NetworkConfig,
    learner: A3CConfig,
    seed: int,
    slot: int,
    random_state: Mapping[str, Any] | None,
) -> A3CPolicy:
    """Makes the policy of a slot, for a process of its own: torch gets one thread there."""
    torch.set_num_threads(1)
    random = np.random.default_rng(np.random.SeedSequence([seed, slot]))
    if random_state is not None:
        random.bit_generator.state = dict(random_state)
    return A3CPolicy(network, learner, random)


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
    return any(remote.rpc is None for remote in parsed)


def _workers(config: TrainConfig) -> tuple[int, tuple[str, ...] | None]:
    if config.remotes is None:
        return config.workers or DEFAULT_WORKERS, None
    remotes = parse_remotes(config.remotes)
    if isinstance(remotes, RemoteCount):
        if config.workers not in (None, remotes.count):
            raise ConfigError(
                f"--workers {config.workers} and --remotes {remotes.count} disagree: each "
                "worker has one remote; give one of them"
            )
        return remotes.count, None
    workers = config.workers or len(remotes)
    if workers > len(remotes):
        raise ConfigError(
            f"--workers {workers} needs as many addresses in --remotes, got {len(remotes)}"
        )
    return workers, tuple(_address(remote) for remote in remotes)


def _address(remote: Remote) -> str:
    """Returns an address of one remote that ``parse_remotes`` reads back."""
    if remote.id.startswith("unix:"):
        return remote.id
    address = remote.id if remote.rpc else f"vnc://{remote.id.removeprefix('vnc://')}"
    if remote.password is None:
        return address
    return f"{address}?password={quote(remote.password.reveal(), safe='')}"
