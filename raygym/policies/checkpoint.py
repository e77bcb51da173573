"""Checkpoints: one file that holds all that is needed to go on, or to play.

A file is written beside its place, flushed to the disk and renamed, so that a crash at any
moment leaves the old files whole. Loading runs no code from the file.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from raygym.config import ObservationConfig
from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import Network, NetworkConfig, make_network

FORMAT = 1
_LEARNERS: Mapping[str, type[A3CConfig] | type[BatchedConfig]] = {
    "a3c": A3CConfig,
    "batched": BatchedConfig,
}
_NAME = re.compile(r"^checkpoint-(\d+)\.pt$")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training run."""

    env: str
    """EnvId."""
    observation: ObservationConfig | None
    """How the screen becomes an observation; None for the environment's own vectors."""
    fps: float | None
    """Agent steps a second in real time; None for the environment's own."""
    frame_skip: int | None = None
    """Frames of one step in lock-step; None for real time."""
    network: NetworkConfig
    """Size of the network."""
    learner: A3CConfig | BatchedConfig
    """Constants of A3C, or of the batched learner."""
    parameters: Mapping[str, Any]
    """As ``SharedParameters.state`` or ``BatchedLearner.state`` returns it."""
    env_steps: int
    """Steps taken so far, over all slots and runs."""
    episodes: int
    """Episodes ended so far."""
    seed: int
    """The run's seed."""
    random_states: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """State of numpy's PCG64 of each slot."""
    frame_stack: int = 1
    """Frames side by side in one observation."""

    def actor_critic(self) -> Network:
        """Builds the network with the weights of this checkpoint."""
        network = make_network(self.network)
        network.load_state_dict(dict(self.parameters["network"]))
        return network


def save(checkpoint: Checkpoint, directory: Path, *, keep: int = 3) -> Path:
    """Writes ``checkpoint-<env_steps>.pt`` atomically and removes the oldest beyond ``keep``.

    Args:
        checkpoint: What to write.
        directory: Where; made if need be.
        keep: Number of checkpoints that stay, at least 1.

    Returns:
        The path of the file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"checkpoint-{checkpoint.env_steps:012d}.pt"
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    content = {
        "format": FORMAT,
        "env": checkpoint.env,
        "observation": None if checkpoint.observation is None else asdict(checkpoint.observation),
        "fps": checkpoint.fps,
        "frame_skip": checkpoint.frame_skip,
        "network": asdict(checkpoint.network),
        "algorithm": "a3c" if isinstance(checkpoint.learner, A3CConfig) else "batched",
        "learner": asdict(checkpoint.learner),
        "parameters": dict(checkpoint.parameters),
        "env_steps": checkpoint.env_steps,
        "episodes": checkpoint.episodes,
        "seed": checkpoint.seed,
        "random_states": {slot: dict(s) for slot, s in checkpoint.random_states.items()},
        "frame_stack": checkpoint.frame_stack,
    }
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_directory(directory)
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: The file, or a directory whose newest checkpoint is meant: one that holds
            checkpoints, or a logdir of ``raygym.train``.

    Raises:
        ConfigError: There is none, or it is no checkpoint that this version can read.
    """
    file = find(path)
    try:
        held = torch.load(file, weights_only=True)
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            seen = held.get("format") if isinstance(held, dict) else type(held).__name__
            raise ConfigError(
                f"{file}: expected a raygym checkpoint of format {FORMAT}, got {seen!r}"
            )
        network = held["network"]
        network["observation_shape"] = tuple(network["observation_shape"])
        seen = held["observation"]
        return Checkpoint(
            env=held["env"],
            observation=None if seen is None else ObservationConfig(**seen),
            fps=held["fps"],
            frame_skip=held.get("frame_skip"),
            network=NetworkConfig(**network),
            learner=_LEARNERS[held.get("algorithm", "a3c")](**held["learner"]),
            parameters=held["parameters"],
            env_steps=held["env_steps"],
            episodes=held["episodes"],
            seed=held["seed"],
            random_states=held["random_states"],
            frame_stack=held.get("frame_stack", 1),
        )
    # torch.load raises RuntimeError for a damaged archive, UnpicklingError for another file.
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{file}: cannot be read as a checkpoint: {error}") from error


def find(path: Path) -> Path:
    """Returns the file that ``path`` means: itself, or the newest checkpoint in it.

    Raises:
        ConfigError: There is none.
    """
    if path.is_file():
        return path
    found = list_checkpoints(path) or list_checkpoints(path / "checkpoints")
    if not found:
        raise ConfigError(
            f"no checkpoint at {path}: expected a file, or a directory with "
            "checkpoint-<steps>.pt in it or in its folder 'checkpoints'"
        )
    return found[-1]


def list_checkpoints(directory: Path) -> list[Path]:
    """Returns the checkpoints in a directory, oldest (fewest steps) first."""
    if not directory.is_dir():
        return []
    found = [p for p in directory.iterdir() if _NAME.match(p.name)]
    return sorted(found, key=lambda p: int(p.stem.split("-")[1]))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
