"""Plans of training over the tiny environments, for tests of the trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable

from raygym.catalog import EnvSpec, Region
from raygym.config import ObservationConfig
from raygym.errors import RemoteFailedToStart
from raygym.policies.networks import NetworkConfig
from raygym.training.plan import Plan
from tests.support.tiny_envs import SHAPE, ChoiceEnv, CountingEnv

SPEC = EnvSpec(
    id="test.Tiny-v0",
    runtime="catch",
    title="Tiny",
    fps=50,
    region=Region(0, 0, 12, 12),
    actions=((), ("a",), ("b",)),
    max_episode_s=10,
    score_floor=-10 / 3,
    score_ceiling=10.0,
)


def make_choice(slot: int) -> ChoiceEnv:
    return ChoiceEnv()


def make_scripted(scripts: list[list[str]], slot: int) -> CountingEnv:
    return CountingEnv(scripts[slot], step_s=0.002)


def make_none(slot: int) -> CountingEnv:
    raise RemoteFailedToStart(f"remote r-{slot} did not get ready; its log: no such display")


def tiny_plan(env_factory: Callable[[int], object] = make_choice, workers: int = 2) -> Plan:
    return Plan(
        spec=SPEC,
        env_factory=env_factory,
        workers=workers,
        observation=ObservationConfig(height_px=12, width_px=12, is_grey=True),
        network=NetworkConfig(
            observation_shape=SHAPE, action_count=3, filter_count=8, lstm_size=32
        ),
        fps=None,
        reward_scale=1.0,
    )


def scripted_plan(*scripts: list[str]) -> Plan:
    return tiny_plan(functools.partial(make_scripted, list(scripts)), workers=len(scripts))
