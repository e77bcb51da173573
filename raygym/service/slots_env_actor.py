"""The actor of A3C that owns several environments: gradients over all of them side by side.

A plain class, as ``EnvActor``, for environments that wait for their agent. It plays within
``gradient``, so that a network is asked once for all slots, with the weights that learn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raygym.core import Float32Array
from raygym.errors import ConfigError, MissingDependency
from raygym.service.env_actor import LearningPolicy
from raygym.service.episode_log import log_as_actor
from raygym.service.reports import WEIGHTS_LAG, ActorReport, SamplerReport
from raygym.service.rollouts import weights_lag
from raygym.service.slot_sampler import SlotSampler
from raygym.service.spectators import Show, Spectators, actor_repr
from raygym.vector.slots import Slots


@dataclass(frozen=True, kw_only=True)
class SlotsActorConfig:
    """How a SlotsEnvActor plays."""

    rollout_steps: int = 20
    """T."""
    reward_scale: float = 1.0
    """Factor between a reward and what is learned from."""
    seeds_every_episode: bool = False
    """Resets each episode with a seed of its own."""
    seed: int = 0
    """Of the resets."""
    show: Show | None = None
    """Who looks on; None for nobody."""


class SlotsEnvActor:
    """Owns K environments and one copy of the policy.

    Args:
        number: Which actor this is.
        slots_factory: Makes the slots of an actor, by its number.
        num_slots: K; this actor's slots are ``number * K`` to ``number * K + K - 1``.
        policy_factory: Makes the policy of an actor, as for ``EnvActor``.
        config: How it plays.
        random_state: State of the policy's random numbers in a checkpoint, or None.
    """

    def __init__(
        self,
        number: int,
        slots_factory: Callable[[int], Slots],
        num_slots: int,
        policy_factory: Callable[[int, Mapping[str, Any] | None], LearningPolicy],
        config: SlotsActorConfig,
        random_state: Mapping[str, Any] | None = None,
    ) -> None:
        log_as_actor()
        self._number, self._num_slots = number, num_slots
        self._slots_factory = slots_factory
        self._policy = policy_factory(number, random_state)
        self._config = config
        self._sampler: SlotSampler | None = None

    def __repr__(self) -> str:
        first = self._number * self._num_slots
        return actor_repr("SlotsEnvActor", first, self._num_slots, self._config.show)

    def gradient(
        self, weights: tuple[int, Float32Array], *, timeout_s: float = 1.0
    ) -> tuple[Float32Array | None, list[ActorReport]]:
        """Takes over weights, plays T steps of each slot and returns the gradient of them.

        The first call makes the slots.

        Args:
            weights: Their version and float32[N].
            timeout_s: Longest time to play; the next call goes on where this one stopped.

        Returns:
            float32[N], or None if the steps did not come in time; and a report of each slot,
            the statistics of the gradient in the first.
        """
        version, vector = weights
        self._policy.set_weights(vector, version)
        try:
            rollout = self._made().collect(timeout_s=timeout_s)
        except (ConfigError, MissingDependency) as error:
            return None, self._failed(str(error))
        gradient = self._policy.gradient(rollout) if rollout is not None else None
        reports = self._made().reports()
        state = self._policy.random.bit_generator.state
        for report in reports:
            report.random_state = state
        statistics = dict(gradient.statistics) if gradient else {}
        if rollout is not None:
            statistics[WEIGHTS_LAG] = weights_lag(rollout, version)
        told = [_report(one, statistics if n == 0 else {}) for n, one in enumerate(reports)]
        return (gradient.vector if gradient else None), told

    def close(self, *, timeout_s: float = 3.0) -> bool:
        """Closes the slots; may be called twice.

        Args:
            timeout_s: As for ``EnvActor``; slots end within a time of their own.

        Returns:
            True.
        """
        del timeout_s
        if self._sampler is not None:
            self._sampler.close()
        return True

    def _made(self) -> SlotSampler:
        if self._sampler is None:
            config = self._config
            self._sampler = SlotSampler(
                self._slots_factory(self._number),
                self._policy,
                rollout_steps=config.rollout_steps,
                seed=config.seed,
                reward_scale=config.reward_scale,
                first_slot=self._number * self._num_slots,
                seeds_every_episode=config.seeds_every_episode,
                env_id=config.show.env_id if config.show else "",
                spectators=Spectators.of(config.show, actor=f"actor-{self._number}"),
            )
        return self._sampler

    def _failed(self, error: str) -> list[ActorReport]:
        first = self._number * self._num_slots
        return [
            _report(SamplerReport(slot=slot, state="failed", error=error, is_fatal=True), {})
            for slot in range(first, first + self._num_slots)
        ]


def _report(sampler: SamplerReport, statistics: Mapping[str, float]) -> ActorReport:
    return ActorReport(
        sampler=sampler, has_gradient=bool(statistics), statistics=statistics, pid=os.getpid()
    )
