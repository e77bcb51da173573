"""Who plays and learns for a run, by the name of its algorithm, and how that is kept."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from raygym.errors import ConfigError
from raygym.policies import checkpoint as checkpoints
from raygym.policies.a3c import A3CConfig
from raygym.policies.batched import BatchedConfig
from raygym.policies.checkpoint import Checkpoint
from raygym.service.actor_answers import SlotsFactory
from raygym.service.slot_making import slots_of_id
from raygym.service.spectators import Show
from raygym.training.config import RLLIB_ALGOS, TrainConfig
from raygym.training.files import write_json
from raygym.training.fleet import Fleet
from raygym.training.plan import Plan
from raygym.vector.slots import Slots

if TYPE_CHECKING:
    from raygym.rllib.run import RLlibRun
    from raygym.training.learners import LearnerGroup

_RUN = "raygym.json"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where an earlier run stood."""

    env_steps: int = 0
    episodes: int = 0
    checkpoint: Checkpoint | None = None
    """Of a built-in learner; None for a new run, and for RLlib's."""
    directory: Path | None = None
    """Of RLlib's checkpoint."""

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """State of the built-in learner, if there is one."""
        return None if self.checkpoint is None else self.checkpoint.parameters

    @property
    def random_states(self) -> Mapping[int, Mapping[str, Any]] | None:
        """Of the slots, if they are known."""
        return None if self.checkpoint is None else self.checkpoint.random_states


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, for its checkpoint."""

    env_steps: int
    episodes: int
    random_states: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


AnyRunner: TypeAlias = "Fleet | LearnerGroup | RLlibRun"


def make_runner(
    config: TrainConfig, plan: Plan, resumed: Resumed, show: Show | None = None
) -> AnyRunner:
    """Starts whoever plays and learns; Ray must run.

    Args:
        config: Settings of the run.
        plan: Its environment.
        resumed: Where an earlier run stood.
        show: Who looks on; None for nobody.

    Raises:
        ConfigError: A setting makes no sense.
    """
    if config.algo == "a3c":
        return Fleet(
            plan,
            config.learner,
            seed=config.seed,
            parameters=resumed.parameters,
            random_states=resumed.random_states,
            show=show,
        )
    if plan.make_kwargs is None:
        raise ConfigError(f"{plan.spec.id}: this plan makes single environments, for A3C only")
    if config.algo == "batched":
        return _learners(config, plan, plan.make_kwargs, resumed, show)
    # RLlib takes seconds to import, which nobody else should pay for.
    from raygym.rllib.run import RLlibRun

    return RLlibRun(
        config.algo,
        config.env,
        num_slots=plan.workers,
        make_kwargs=plan.make_kwargs,
        frame_stack=plan.frame_stack,
        reward_scale=plan.reward_scale,
        seed=config.seed,
        restore=resumed.directory,
        show=show,
    )


def save(
    runner: AnyRunner, directory: Path, *, config: TrainConfig, plan: Plan, progress: Progress
) -> Path:
    """Writes a checkpoint and removes the oldest.

    Args:
        runner: What is to be kept.
        directory: Where.
        config: Settings of the run.
        plan: Its environment.
        progress: How far it is.

    Returns:
        The file, or RLlib's directory.
    """
    if config.algo in RLLIB_ALGOS:
        path: Path = runner.save(directory, keep=config.checkpoints_kept)  # type: ignore[union-attr]
        write_json(
            path / _RUN,
            {
                "env": plan.spec.id,
                "algo": config.algo,
                "env_steps": progress.env_steps,
                "episodes": progress.episodes,
                "seed": config.seed,
            },
        )
        return path
    return checkpoints.save(
        Checkpoint(
            env=plan.spec.id,
            observation=plan.observation,
            fps=plan.fps,
            frame_skip=plan.frame_skip,
            network=plan.own_network(),
            learner=config.learner if config.algo == "a3c" else plan.batched,
            parameters=runner.parameters(),  # type: ignore[union-attr]
            env_steps=progress.env_steps,
            episodes=progress.episodes,
            seed=config.seed,
            random_states=progress.random_states,
            frame_stack=plan.frame_stack,
        ),
        directory,
        keep=config.checkpoints_kept,
    )


def load(config: TrainConfig, plan: Plan) -> Resumed:
    """Returns what ``config.resume`` names; nothing where it is None.

    Raises:
        ConfigError: There is no such checkpoint, or it is of another environment, network or
            algorithm.
    """
    if config.resume is None:
        return Resumed()
    if config.algo in RLLIB_ALGOS:
        return _load_rllib(config, plan, config.resume)
    held = checkpoints.load(config.resume)
    _check_env(config, held.env, plan.spec.id)
    kind = A3CConfig if config.algo == "a3c" else BatchedConfig
    if not isinstance(held.learner, kind):
        other = "batched" if config.algo == "a3c" else "a3c"
        raise ConfigError(
            f"--resume {config.resume}: it is of another learner; give --algo {other}"
        )
    if held.network != plan.network:
        raise ConfigError(
            f"--resume {config.resume}: its network is {held.network}, the settings ask for "
            f"{plan.network}; give the --height-px, --width-px, --crop, --colour and "
            "--frame-stack of that run"
        )
    return Resumed(env_steps=held.env_steps, episodes=held.episodes, checkpoint=held)


def _load_rllib(config: TrainConfig, plan: Plan, path: Path) -> Resumed:
    from raygym.rllib.run import newest_checkpoint

    nested = path / "checkpoints"
    directory = newest_checkpoint(nested if nested.is_dir() else path)
    try:
        held = json.loads((directory / _RUN).read_text(encoding="utf-8"))
        found = held["env"], held["algo"], int(held["env_steps"]), int(held["episodes"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{directory}: {_RUN} cannot be read: {error}") from error
    env, algo, env_steps, episodes = found
    _check_env(config, env, plan.spec.id)
    if algo != config.algo:
        raise ConfigError(
            f"--resume {config.resume}: give --algo {algo}, which it was trained with"
        )
    return Resumed(env_steps=env_steps, episodes=episodes, directory=directory)


def _check_env(config: TrainConfig, held: str, wanted: str) -> None:
    if held != wanted:
        raise ConfigError(
            f"--resume {config.resume}: it was trained on {held}, not on {wanted}; "
            f"give --env {held}"
        )


def _learners(
    config: TrainConfig,
    plan: Plan,
    make_kwargs: Mapping[str, Any],
    resumed: Resumed,
    show: Show | None,
) -> LearnerGroup:
    from raygym.training.learner_sources import LearnerSetup, from_service, from_slots
    from raygym.training.learners import LearnerGroup

    if plan.workers % plan.learners:
        raise ConfigError(
            f"--num-slots {plan.workers} cannot be dealt out evenly to --num-learners "
            f"{plan.learners}; give a multiple"
        )
    each = plan.workers // plan.learners
    slots = slots_of_id(
        config.env, frame_stack=plan.frame_stack, supervision=None, make_kwargs=make_kwargs
    )
    # In real time the game does not wait for a learner, so that somebody else must play.
    is_apart = plan.mode == "realtime"
    setup = LearnerSetup(
        network=plan.own_network(),
        config=plan.batched,
        make_source=from_service(slots, waits_for_learner=False)
        if is_apart
        else from_slots(functools.partial(_slots_of_learner, slots, each)),
        slots_per_learner=each,
        num_learners=plan.learners,
        seed=config.seed,
        reward_scale=plan.reward_scale,
        seeds_every_episode=plan.seeds_every_episode,
        show=show,
    )
    return LearnerGroup(setup, parameters=resumed.parameters, random_states=resumed.random_states)


def _slots_of_learner(slots: SlotsFactory, each: int, rank: int) -> Slots:
    return slots(rank * each, each)
