"""What suits an environment unless somebody says otherwise: how it is seen and learned from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from raygym.catalog import EnvSpec
from raygym.config import ObservationConfig
from raygym.policies.batched import BatchedConfig
from raygym.policies.networks import NetworkConfig

Memory = Literal["lstm", "frames"]
"""How an agent remembers what it saw: by an LSTM, or by seeing several frames at once."""

FLASH_FPS = 12.5
FLASH_FRAME_SKIP = 4
FLASH_OBSERVATION = ObservationConfig(height_px=128, width_px=200, is_grey=True)
"""Universe-starter-agent's."""
FLASH_LOCKSTEP_OBSERVATION = ObservationConfig(height_px=72, width_px=96, is_grey=True)
"""A quarter of that: in lock-step the learner, not the game, sets the pace."""
OTHER_OBSERVATION = ObservationConfig(height_px=42, width_px=42, is_grey=True)
ATARI_OBSERVATION = ObservationConfig(height_px=84, width_px=84, is_grey=True)
"""As Mnih et al., 2015, have it."""
PONG_OBSERVATION = ObservationConfig(
    height_px=40, width_px=40, is_grey=True, crop=(0, 34, 160, 160)
)
"""The field without score and walls, each pixel the mean of 4 x 4."""

_PONG = re.compile(r"(?:^|\.|/)Pong\w*-v(?P<version>\d+)$")
_STICKY_VERSIONS = ("0", "5")
_FRAME_STACK = 4
_FEW, _SOME, _MANY = 2, 8, 32


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How an environment is played and learned from."""

    observation: ObservationConfig | None
    """How its picture becomes an observation; None keeps the environment's own vectors."""
    fps: float | None = None
    """Agent steps a second in real time; None for its own."""
    num_slots: int = _FEW
    """Number of environments."""
    frame_stack: int = 1
    """Observations seen at once."""
    batched: BatchedConfig = field(default_factory=BatchedConfig)
    """Constants of the batched learner."""
    filter_count: int = 32
    """Filters of each convolution of its network."""
    conv_count: int = 4
    """Convolutions of its network, each of which halves height and width."""
    hidden_size: int = 256
    """Units of its hidden layers; not of an LSTM."""
    input_mean: float = 0.0
    """What a network without memory subtracts from what it sees."""
    input_deviation: float | None = None
    """What it divides that by; None for its own choice. The batched learner measures both."""


def preset_of(spec: EnvSpec, *, is_lockstep: bool, memory: Memory, sees_vectors: bool) -> Preset:
    """Returns what suits an environment.

    Args:
        spec: The environment.
        is_lockstep: Whether it stands still between steps.
        memory: How the agent remembers.
        sees_vectors: Whether it is to see the environment's own vectors.
    """
    stack = _FRAME_STACK if memory == "frames" else 1
    if spec.runtime == "flashgames":
        if is_lockstep and memory == "frames":
            return FLASH_LOCKSTEP
        seen = FLASH_LOCKSTEP_OBSERVATION if is_lockstep else FLASH_OBSERVATION
        return Preset(observation=seen, fps=FLASH_FPS, frame_stack=stack, batched=GAMES)
    if sees_vectors:
        return VECTORS
    if spec.runtime != "gym-core" or memory == "lstm" or not is_lockstep:
        return Preset(observation=OTHER_OBSERVATION, frame_stack=stack, batched=GAMES)
    pong = _PONG.search(spec.id)
    if pong is None:
        return ATARI
    return PONG_STICKY if pong["version"] in _STICKY_VERSIONS else PONG


def network_for(
    preset: Preset, *, observation_shape: tuple[int, ...], action_count: int, memory: Memory
) -> NetworkConfig:
    """Returns the network that fits an environment.

    Args:
        preset: How it is played.
        observation_shape: Of what the agent sees at once: all frames of the stack.
        action_count: Number of Discrete actions.
        memory: How the agent remembers.
    """
    return NetworkConfig(
        observation_shape=observation_shape,
        action_count=action_count,
        filter_count=preset.filter_count,
        conv_count=preset.conv_count,
        core="lstm" if memory == "lstm" else "feedforward",
        hidden_size=preset.hidden_size,
        input_mean=0.0 if memory == "lstm" else preset.input_mean,
        input_deviation=None if memory == "lstm" else preset.input_deviation,
    )


def learner_count(num_slots: int) -> int:
    """Returns how many learners suit this machine: one for each core, at most 2."""
    return max(1, min(2, len(os.sched_getaffinity(0)), num_slots))


GAMES = BatchedConfig(
    gamma=0.97,
    learning_rate=5e-4,
    anneal_steps=None,
    rollout_steps=64,
    minibatch_steps=64,
)
"""For few slots of a game, whose learner's batches are small, for as long as it is let."""

FLASH_LOCKSTEP = Preset(
    observation=FLASH_LOCKSTEP_OBSERVATION,
    fps=FLASH_FPS,
    num_slots=2 * _FEW,
    frame_stack=_FRAME_STACK,
    batched=BatchedConfig(
        gamma=0.95,
        gae_lambda=0.8,
        final_learning_rate=2e-4,
        anneal_steps=150_000,
        clip=0.2,
        final_entropy_weight=0.003,
        rollout_steps=256,
        epochs=4,
    ),
)
"""A Flash game that stands still between steps. Seconds of points are noise beside what one turn
of the wheel is worth, thus the short sight; the plateau is left once the step size has fallen."""

ATARI = Preset(
    observation=ATARI_OBSERVATION,
    num_slots=_MANY,
    frame_stack=_FRAME_STACK,
    batched=BatchedConfig(learning_rate=5e-4, anneal_steps=10_000_000),
)

# Of a random player's 1500 steps: the field is plain, so that a paddle is many deviations away.
_PONG_MEAN, _PONG_DEVIATION = 87.3, 4.06

PONG = Preset(
    observation=PONG_OBSERVATION,
    num_slots=_MANY,
    frame_stack=_FRAME_STACK,
    batched=BatchedConfig(
        gamma=0.97, gae_lambda=0.9, anneal_steps=1_400_000, final_entropy_weight=0.0
    ),
    filter_count=16,
    conv_count=3,
    input_mean=_PONG_MEAN,
    input_deviation=_PONG_DEVIATION,
)
"""Pong that does as it is told. A rally is over within some tens of steps, thus the short sight;
the last map, 5x5, still tells where the ball is."""

PONG_STICKY = Preset(
    observation=PONG_OBSERVATION,
    num_slots=2 * _MANY,
    frame_stack=_FRAME_STACK,
    batched=BatchedConfig(
        gamma=0.97,
        gae_lambda=0.9,
        anneal_steps=2_700_000,
        final_entropy_weight=0.002,
        minibatch_steps=256,
    ),
    filter_count=24,
    conv_count=3,
    input_mean=_PONG_MEAN,
    input_deviation=_PONG_DEVIATION,
)
"""Pong that repeats an action with a probability of 0.25 whatever it is told: luck with a seed
is worth nothing there, so batches are larger, the network wider and more entropy stays."""

VECTORS = Preset(
    observation=None,
    num_slots=_SOME,
    batched=BatchedConfig(
        learning_rate=2.5e-3,
        anneal_steps=200_000,
        clip=0.2,
        epochs=4,
        entropy_weight=0.0,
        normalises_input=False,
        rollout_steps=64,
    ),
    hidden_size=64,
)
"""Classic control, such as CartPole."""
