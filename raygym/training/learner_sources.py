"""Where a learner's rollouts come from: slots of its own, or a rollout service."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from raygym.core import Rollout
from raygym.errors import ConfigError
from raygym.policies.batched import BatchedConfig, BatchedLearner, BatchedPolicy
from raygym.policies.networks import NetworkConfig
from raygym.service.reports import ActorLost, SamplerReport
from raygym.service.rollout_service import RolloutService
from raygym.service.slot_sampler import SlotSampler
from raygym.service.spectators import Show, Spectators
from raygym.vector.slots import Slots

SlotsFactory: TypeAlias = Callable[[int], Slots]
"""Makes the slots of a learner, by its rank; called in its process; must pickle."""
ServiceSlots: TypeAlias = Callable[[int, int], Slots]
"""Makes the slots of an actor, from the number of the first and how many; must pickle."""


@dataclass(frozen=True, kw_only=True)
class LearnerSetup:
    """What all learners of a run are made from; it pickles."""

    network: NetworkConfig
    """Which network."""
    config: BatchedConfig
    """Constants of learning."""
    make_source: SourceFactory
    """Makes a learner's source of rollouts; see ``from_slots`` and ``from_service``."""
    slots_per_learner: int
    """B of each learner's rollouts."""
    num_learners: int = 2
    """How many learners."""
    seed: int = 0
    """Seeds the weights, the actions and the resets."""
    reward_scale: float = 1.0
    """Factor between a reward and what is learned from."""
    seeds_every_episode: bool = False
    """Resets each episode with a seed of its own."""
    show: Show | None = None
    """Who looks on; None for nobody."""

    @property
    def env_id(self) -> str:
        """Which environment, for the log; empty where nobody said."""
        return self.show.env_id if self.show is not None else ""


class Source(Protocol):
    """Rollouts for one learner."""

    random: np.random.Generator
    """Draws the actions, where they are drawn here."""

    def collect(self, *, timeout_s: float) -> Rollout | None:
        """Returns the next rollout, or None if there is none in time; nothing is lost then."""
        ...

    def note_update(self, learner: BatchedLearner) -> None:
        """Acts with the newest weights from now on."""
        ...

    def reports(self) -> list[SamplerReport]:
        """Returns what happened in each slot since the last call."""
        ...

    def close(self) -> None:
        """Ends what plays; may be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Seat:
    """The place of one learner, as its source sees it."""

    setup: LearnerSetup
    rank: int
    learner: BatchedLearner
    random_state: Mapping[str, Any] = field(default_factory=dict)
    """State of its random numbers in a checkpoint, or empty."""

    @property
    def first_slot(self) -> int:
        """Number of its first slot within the run."""
        return self.rank * self.setup.slots_per_learner

    def random(self) -> np.random.Generator:
        """Returns the learner's source of actions."""
        random = np.random.default_rng(np.random.SeedSequence([self.setup.seed, self.rank]))
        if self.random_state:
            random.bit_generator.state = dict(self.random_state)
        return random


SourceFactory: TypeAlias = Callable[[Seat], Source]
"""Makes the source of a learner; called in its process; must pickle."""


def from_slots(slots_factory: SlotsFactory) -> SourceFactory:
    """Has each learner play slots of its own, always with its newest weights."""
    return functools.partial(SlotSource, slots_factory)


class SlotSource:
    """Slots that are played with the learner's own network: what comes is always on-policy.

    Args:
        slots_factory: Makes them.
        seat: Whose they are.
    """

    def __init__(self, slots_factory: SlotsFactory, seat: Seat) -> None:
        setup = seat.setup
        self.random = seat.random()
        self._policy = BatchedPolicy(seat.learner.network, self.random)
        self._policy.weights_version = seat.learner.version
        self._sampler = SlotSampler(
            slots_factory(seat.rank),
            self._policy,
            rollout_steps=setup.config.rollout_steps,
            seed=setup.seed,
            reward_scale=setup.reward_scale,
            first_slot=seat.first_slot,
            seeds_every_episode=setup.seeds_every_episode,
            env_id=setup.env_id,
            spectators=Spectators.of(setup.show, actor=f"learner-{seat.rank}"),
        )

    def collect(self, *, timeout_s: float) -> Rollout | None:
        """Plays until every slot has T steps."""
        return self._sampler.collect(timeout_s=timeout_s)

    def note_update(self, learner: BatchedLearner) -> None:
        """The network is the learner's own; only the version is taken over."""
        self._policy.weights_version = learner.version

    def reports(self) -> list[SamplerReport]:
        """Returns what happened in each slot since the last call."""
        return self._sampler.reports()

    def close(self) -> None:
        """Closes the slots."""
        self._sampler.close()


def from_service(
    env: str | ServiceSlots, *, slots_per_actor: int | None = None, **options: Any
) -> SourceFactory:
    """Has each learner learn from a RolloutService of its own.

    Its actors may play on any node of the cluster, and ahead of the learner, whose V-trace makes
    up for it.

    Args:
        env: As ``RolloutService`` takes it.
        slots_per_actor: How many slots make a rollout; None for all of a learner's. They must
            divide them.
        **options: More of ``RolloutService``'s, such as ``make_kwargs`` and ``prefetch``.
    """
    return functools.partial(ServiceSource, env, slots_per_actor, options)


class ServiceSource:
    """Rollouts of a RolloutService, whose actors have copies of the weights.

    Args:
        env: As ``RolloutService`` takes it.
        slots_per_actor: B of a rollout; None for all slots of the learner.
        options: More of ``RolloutService``'s.
        seat: Whose it is.

    Raises:
        ConfigError: The slots of the learner cannot be dealt out evenly.
    """

    def __init__(
        self,
        env: str | ServiceSlots,
        slots_per_actor: int | None,
        options: Mapping[str, Any],
        seat: Seat,
    ) -> None:
        setup = seat.setup
        columns = slots_per_actor or setup.slots_per_learner
        if setup.slots_per_learner % columns:
            raise ConfigError(
                f"from_service: slots_per_actor: {setup.slots_per_learner} slots of a learner "
                f"cannot be dealt out to actors of {columns}; all rollouts must have one shape"
            )
        self.random = seat.random()
        self._first_slot = seat.first_slot
        self._version = 0
        self._service = RolloutService(
            env,
            setup.slots_per_learner,
            policy=functools.partial(make_batched_policy, setup.network, setup.seed, seat.rank),
            rollout_steps=setup.config.rollout_steps,
            slots_per_actor=columns,
            columns=columns,
            reward_scale=setup.reward_scale,
            seed=setup.seed * setup.num_learners + seat.rank,
            seeds_every_episode=setup.seeds_every_episode,
            show=setup.show and replace(setup.show, first_slot=seat.first_slot),
            **options,
        )

    def collect(self, *, timeout_s: float) -> Rollout | None:
        """Takes the next rollout of the service."""
        return self._service.next_rollout(timeout_s=timeout_s)

    def note_update(self, learner: BatchedLearner) -> None:
        """Hands the newest weights to the actors, for their next rollout."""
        if learner.version > self._version:
            self._version = self._service.set_policy(learner.weights(), learner.version)

    def reports(self) -> list[SamplerReport]:
        """Returns what happened in each slot since the last call."""
        reports = []
        for report in self._service.reports():
            if isinstance(report, ActorLost):
                sampler = SamplerReport(slot=report.slot, error=report.error)
            else:
                sampler = report.sampler
            slot = self._first_slot + sampler.slot
            episodes = [replace(episode, slot=slot) for episode in sampler.episodes]
            reports.append(replace(sampler, slot=slot, episodes=episodes))
        return reports

    def close(self) -> None:
        """Ends the service and its actors."""
        self._service.close()


def make_batched_policy(network: NetworkConfig, seed: int, rank: int, actor: int) -> BatchedPolicy:
    """Makes the policy of an actor of a service; it starts with the learners' first weights.

    Args:
        network: Which network.
        seed: The run's seed.
        rank: Of the learner.
        actor: Number of the actor within its service.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = np.random.default_rng(np.random.SeedSequence([seed, rank, actor, 2]))
    return BatchedPolicy(network, random)
