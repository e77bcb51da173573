"""The actor that owns one environment and learns from it.

A plain class: ``raygym.train`` makes it a Ray actor where it spawns it. Weights come in and
gradients go out; pictures stay here.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium

from raygym.core import Float32Array, Rollout, UInt8Array
from raygym.service.episode_log import log_as_actor
from raygym.service.reports import WEIGHTS_LAG, ActorReport
from raygym.service.rollouts import join_rollouts, weights_lag
from raygym.service.sampler import ActingPolicy, Sampler, SamplerConfig
from raygym.service.spectators import Show, Spectators, actor_repr

_SWITCH_INTERVAL_S = 0.001


class GradientLike(Protocol):
    """A gradient and what is worth knowing of it."""

    @property
    def vector(self) -> Float32Array:
        """float32[N]."""
        ...

    @property
    def statistics(self) -> dict[str, float]:
        """Losses, norms and the like, by name."""
        ...


class LearningPolicy(ActingPolicy, Protocol):
    """What an EnvActor asks of a policy."""

    def set_weights(self, vector: Float32Array, version: int) -> None:
        """Takes over float32[N] weights; the sampler goes on acting meanwhile."""
        ...

    def gradient(self, rollout: Rollout) -> GradientLike:
        """Computes a gradient; the sampler goes on acting meanwhile."""
        ...


class EnvActor:
    """Owns one environment and one copy of the policy.

    Args:
        slot: Its number among the actors.
        env_factory: Makes the environment of a slot; called in the sampler's thread.
        policy_factory: Makes the policy of a slot, its random numbers as ``random_state``
            says, or fresh for None.
        config: How the sampler works.
        random_state: State of the slot's random numbers in a checkpoint, or None.
        niceness: How much the thread that calls ``gradient`` stands back behind the sampler's,
            as in ``nice``. It keeps that niceness, so give one only in a process of its own.
        show: Who looks on; None for nobody.
    """

    def __init__(
        self,
        slot: int,
        env_factory: Callable[[int], gymnasium.Env[UInt8Array, Any]],
        policy_factory: Callable[[int, Mapping[str, Any] | None], LearningPolicy],
        config: SamplerConfig,
        random_state: Mapping[str, Any] | None = None,
        niceness: int = 0,
        show: Show | None = None,
    ) -> None:
        log_as_actor()
        self._label = actor_repr("EnvActor", slot, 1, show)
        self._policy = policy_factory(slot, random_state)
        self._sampler = Sampler(
            slot=slot,
            env_factory=lambda: env_factory(slot),
            policy=self._policy,
            config=config,
            env_id=show.env_id if show else "",
            spectators=Spectators.of(show, actor=f"slot-{slot}"),
        )
        self._niceness = niceness
        self._is_started = False

    def __repr__(self) -> str:
        return self._label

    def gradient(
        self, weights: tuple[int, Float32Array], *, timeout_s: float = 1.0
    ) -> tuple[Float32Array | None, ActorReport]:
        """Takes over weights and returns the gradient of what was played since the last call.

        The first call starts the sampler. All rollouts that wait are learned from at once,
        side by side.

        Args:
            weights: Their version and float32[N].
            timeout_s: Longest wait for a rollout.

        Returns:
            float32[N], or None if no rollout came in time; and a report.
        """
        version, vector = weights
        self._policy.set_weights(vector, version)
        if not self._is_started:
            self._start()
        rollouts = self._sampler.take(timeout_s=timeout_s)
        lags = [weights_lag(rollout, version) for rollout in rollouts]
        gradient = self._policy.gradient(join_rollouts(rollouts)) if rollouts else None
        statistics = {**gradient.statistics, WEIGHTS_LAG: sum(lags) / len(lags)} if gradient else {}
        report = ActorReport(
            sampler=self._sampler.report(),
            has_gradient=gradient is not None,
            statistics=statistics,
            pid=os.getpid(),
        )
        return (gradient.vector if gradient else None), report

    def close(self, *, timeout_s: float = 3.0) -> bool:
        """Ends the sampler and its environment; may be called twice.

        Returns:
            Whether it ended within ``timeout_s``.
        """
        return self._sampler.stop(timeout_s=timeout_s)

    def _start(self) -> None:
        # A thread hands its niceness to those that it starts: the sampler goes first.
        self._sampler.start()
        if self._niceness:
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        self._is_started = True
