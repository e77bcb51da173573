"""The rollout service: slots of any env id stepping over a Ray cluster, handed out as Rollouts.

T is time, B the number of slots in a Rollout.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from raygym.core import Rollout
from raygym.errors import ConfigError
from raygym.service.actor_answers import ActorConfig, PolicyFactory, SlotsFactory
from raygym.service.crew_members import CrewConfig
from raygym.service.ray_running import alive_nodes, ray_running
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.rollout_crew import Crew
from raygym.service.service_stats import ServiceAccounts, ServiceStats
from raygym.service.slot_making import SlotsOfId, is_realtime, slots_of_id
from raygym.service.slot_sampler import SlotPolicy
from raygym.service.spectators import Show
from raygym.vector.supervision import Supervision

_MOST_SLOTS_PER_ACTOR = 8
_POLL_S = 60.0


class RolloutService:
    """Keeps N slots stepping, whatever breaks, and hands out what they play as Rollouts.

    Uses the Ray that this process has joined, or the one in RAY_ADDRESS, or starts a small one
    on this machine and ends it with the service. Not for two threads at once.

    Args:
        env: An EnvId, ``gym-core.<Id>`` or an id of Gymnasium's; or what makes the slots of an
            actor, given the number of the first and how many. It must pickle.
        num_slots: N.
        policy: Makes the policy of an actor from its number, inside it (must pickle); or a
            policy that each gets a copy of; None draws actions evenly.
        rollout_steps: T.
        slots_per_actor: How many slots share an actor; None: evenly over the nodes, up to 8.
        prefetch: How many Rollouts an actor plays ahead. 0: it plays only while it is asked,
            with the weights of then.
        columns: How many slots make a Rollout, at least; None: half of an actor's, and those
            that come soon after, so that all who are about as fast come together. Its
            ``slots_per_actor`` waits for all.
        waits_for_learner: Whether actors stop once ``prefetch`` Rollouts wait. Otherwise they
            play on, and the oldest goes and is counted. None: unless the environment is in
            real time.
        frame_stack: How many frames make an observation, along its last axis; for an id.
        reward_scale: Factor between a reward and what is learned from; scores are not scaled.
        seed: Of the resets, and of random actions.
        seeds_every_episode: Resets each episode with a seed of its own.
        make_kwargs: More for ``raygym.make_vec``, such as ``backend`` and ``mode``; for an id.
            With a ``client_id``, slots find their Remotes again after a restart.
        supervision: Deadlines of the slots, and how failed starts are tried again.
        show: Who looks on while they play: metrics, the wall, films; None for nobody.
        actor_options: More of Ray's options of an actor: ``num_cpus``, ``resources``,
            ``label_selector``, ``scheduling_strategy``.
        answer_timeout_s: An actor that is silent, or stuck within its slots, for longer is
            replaced.
        start_timeout_s: The same until its slots are there.
        orphan_timeout_s: An actor that hears nothing of this process for so long gives its
            Remotes back and ends.
        clock: Seconds that only grow.

    Raises:
        ConfigError: A setting makes no sense, or the cluster in RAY_ADDRESS cannot be joined.
    """

    def __init__(
        self,
        env: str | SlotsFactory,
        num_slots: int,
        *,
        policy: PolicyFactory | SlotPolicy | None = None,
        rollout_steps: int = 32,
        slots_per_actor: int | None = None,
        prefetch: int = 1,
        columns: int | None = None,
        waits_for_learner: bool | None = None,
        frame_stack: int = 1,
        reward_scale: float = 1.0,
        seed: int = 0,
        seeds_every_episode: bool = False,
        make_kwargs: Mapping[str, Any] | None = None,
        supervision: Supervision | None = None,
        show: Show | None = None,
        actor_options: Mapping[str, Any] | None = None,
        answer_timeout_s: float = 180.0,
        start_timeout_s: float = 600.0,
        orphan_timeout_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(num_slots=num_slots, rollout_steps=rollout_steps, slots_per_actor=slots_per_actor)
        _check(columns=columns)
        if prefetch < 0:
            raise ConfigError(f"RolloutService.prefetch: expected 0 or more, got {prefetch}")
        self._clock = clock
        self._prefetch = prefetch
        factory = _slots_factory(
            env, frame_stack=frame_stack, supervision=supervision, make_kwargs=make_kwargs
        )
        if waits_for_learner is None:
            waits_for_learner = not (isinstance(factory, SlotsOfId) and is_realtime(factory))
        is_policy = hasattr(policy, "act")
        config = CrewConfig(
            actor=ActorConfig(
                number=0,
                first_slot=0,
                num_slots=0,
                rollout_steps=rollout_steps,
                prefetch=prefetch,
                columns=columns,
                waits_for_learner=waits_for_learner,
                reward_scale=reward_scale,
                seeds_every_episode=seeds_every_episode,
                seed=seed,
                env_id=env if isinstance(env, str) else "",
                orphan_timeout_s=orphan_timeout_s,
                supervision=supervision or Supervision(),
                show=show,
            ),
            slots_factory=factory,
            policy_factory=None if is_policy else policy,  # type: ignore[arg-type]
            policy=policy if is_policy else None,
            actor_options=actor_options or {},
            answer_timeout_s=answer_timeout_s,
            start_timeout_s=start_timeout_s,
        )
        self._stack = contextlib.ExitStack()
        self._accounts = ServiceAccounts()
        self._start(config, num_slots, slots_per_actor)

    def _start(self, config: CrewConfig, num_slots: int, slots_per_actor: int | None) -> None:
        self._stack.enter_context(
            ray_running(math.ceil(num_slots / (slots_per_actor or 1)), has_dashboard=False)
        )
        try:
            self._per_actor = slots_per_actor or _evenly(num_slots)
            _check_columns(config.actor.columns, self._per_actor)
            self._crew = Crew(config, self._accounts, clock=self._clock)
            self._stack.callback(self._crew.close, timeout_s=0.5)
            if config.policy is not None:
                self._crew.version = int(getattr(config.policy, "weights_version", 0))
            self.scale(num_slots)
        except BaseException:
            self._stack.close()
            raise

    def rollouts(self, *, timeout_s: float | None = None) -> Iterator[Rollout]:
        """Hands out Rollouts as they come, each step in exactly one of them.

        Their arrays are read-only where they came from another process; copy what must be
        changed. A Rollout keeps its memory in Ray's store as long as any of its arrays lives.

        Args:
            timeout_s: Longest wait for each; the iteration ends then, and another one goes on
                from there. None waits on.

        Yields:
            Time-major blocks [T, B, ...] of slots of one actor; see ``Rollout``.

        Raises:
            ConfigError, MissingDependency: No environment can be made at all.
            RemoteFailedToStart: No slot ever started, however often it was tried; with the log.
            RolloutsFailed: Every actor keeps failing.
        """
        while True:
            rollout = self.next_rollout(timeout_s=timeout_s)
            if rollout is None:
                return
            yield rollout

    def next_rollout(self, *, timeout_s: float | None = None) -> Rollout | None:
        """Returns the next of ``rollouts``; None where none came in time."""
        deadline_s = None if timeout_s is None else self._clock() + timeout_s
        self._crew.ask()
        while True:
            left_s = _POLL_S if deadline_s is None else max(0.0, deadline_s - self._clock())
            rollout = self._crew.next_rollout(timeout_s=left_s, asks_again=self._prefetch > 0)
            if rollout is not None or (deadline_s is not None and self._clock() >= deadline_s):
                return rollout

    def set_policy(self, policy_or_weights: Any, version: int | None = None) -> int:
        """Has every actor act with other weights, or another policy, from its next Rollout on.

        They cross to each node once, whatever the number of actors.

        Args:
            policy_or_weights: For the ``set_weights(weights, version)`` of the policy; or a
                policy (whatever has ``act``), whose recurrent state has the same shapes.
            version: Its number, as it will stand in ``traces.weights_versions``; None: one
                more than the last.

        Returns:
            The version.

        Raises:
            ConfigError: It is no newer than the last.
        """
        newest = self._crew.version
        version = newest + 1 if version is None else version
        if version <= newest:
            raise ConfigError(
                f"RolloutService.set_policy: version: expected more than {newest}, got {version}"
            )
        self._crew.set_weights(policy_or_weights, version)
        return version

    def stats(self) -> ServiceStats:
        """Returns how it fares; no older than the last answer of each actor."""
        now_s = self._clock()
        members = self._crew.members.values()
        return self._accounts.stats(
            {member.first_slot: (member.num_slots, member.account) for member in members},
            actors=sum(member.handle is not None for member in members),
            version=self._crew.version,
            nodes=self._crew.quarantine.rows(now_s),
            now_s=now_s,
        )

    def reports(self) -> list[ActorReport | ActorLost]:
        """Returns what happened since the last call, by slot; the newest 10,000 of them."""
        reports = list(self._accounts.reports)
        self._accounts.reports.clear()
        return reports

    def scale(self, num_slots: int) -> None:
        """Has so many slots play from now on.

        Those of low numbers play on. What an actor that goes has not handed out is lost.

        Args:
            num_slots: N.
        """
        _check(num_slots=num_slots)
        per_actor = self._per_actor
        self._crew.resize(
            {
                number: (first, min(per_actor, num_slots - first))
                for number, first in enumerate(range(0, num_slots, per_actor))
            }
        )
        if self._prefetch > 0:
            self._crew.ask()

    def drain(self, *, timeout_s: float) -> Iterator[Rollout]:
        """Hands out what was played already and has no more begun; columns in the making stay.

        ``rollouts`` goes on from there.

        Args:
            timeout_s: Longest time in all.
        """
        return self._crew.drain(timeout_s=timeout_s)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Ends all slots and actors within a bounded time; may be called twice.

        Args:
            timeout_s: After so long actors are killed; their Remotes go once their leases end.
        """
        try:
            self._crew.close(timeout_s=timeout_s)
        finally:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ConfigError(f"RolloutService.{name}: expected 1 or more, got {count}")


def _slots_factory(
    env: str | SlotsFactory,
    *,
    frame_stack: int,
    supervision: Supervision | None,
    make_kwargs: Mapping[str, Any] | None,
) -> SlotsFactory:
    if isinstance(env, str):
        return slots_of_id(
            env, frame_stack=frame_stack, supervision=supervision, make_kwargs=make_kwargs or {}
        )
    if make_kwargs or frame_stack != 1:
        raise ConfigError(
            "RolloutService: make_kwargs and frame_stack go with an env id; have the "
            "function that makes the slots do it"
        )
    return env


def _check_columns(columns: int | None, per_actor: int) -> None:
    if columns is not None and columns > per_actor:
        raise ConfigError(
            f"RolloutService.columns: a Rollout holds slots of one actor, which has {per_actor}; "
            f"got {columns}"
        )


def _evenly(num_slots: int) -> int:
    nodes = len(alive_nodes())
    return min(_MOST_SLOTS_PER_ACTOR, math.ceil(num_slots / max(1, nodes)))
