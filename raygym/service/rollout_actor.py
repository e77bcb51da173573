"""The actor that owns some slots and a copy of the policy, and plays Rollouts.

A plain class: the service makes it a Ray actor where it spawns it. A thread of it plays; its
methods hand out what that thread made.
"""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray

from raygym.core import Rollout
from raygym.errors import ConfigError, MissingDependency, RaygymError
from raygym.service.actor_answers import ActorConfig, Answer, PolicyFactory, SlotsFactory
from raygym.service.episode_log import log_as_actor
from raygym.service.random_policy import RandomActions
from raygym.service.reports import SamplerReport
from raygym.service.shared_frames import FramesAddress, FramesPool
from raygym.service.slot_sampler import SlotPolicy, SlotSampler
from raygym.service.spectators import Spectators, actor_repr
from raygym.vector.slots import SlotReport, Slots

log = logging.getLogger(__name__)

_POLL_S = 0.25
_MOST_REPORTS = 10_000


class RolloutActor:
    """Owns K slots and one copy of the policy.

    Args:
        config: How it plays.
        slots_factory: Makes the slots, in the playing thread.
        policy_factory: Makes the policy; None: random actions.
        policy: A policy to use as it is, instead.
        clock: Seconds, steady.
        end: Ends the process of an orphan.
    """

    def __init__(
        self,
        config: ActorConfig,
        slots_factory: SlotsFactory,
        policy_factory: PolicyFactory | None = None,
        policy: SlotPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        log_as_actor()
        self._config = config
        self._slots_factory = slots_factory
        self._policy_factory = policy_factory
        self._policy = policy
        self._clock = clock
        self._end = end
        self._changed = threading.Condition()
        self._must_stop = False
        self._rollouts: collections.deque[Rollout] = collections.deque()
        self._reports: collections.deque[SamplerReport] = collections.deque(maxlen=_MOST_REPORTS)
        self._slot_reports: Sequence[SlotReport] = ()
        self._dropped = 0
        self._is_asked = False
        self._must_finish = False
        self._wants_reports = False
        self._weights: tuple[Any, int] | None = None
        self._failure, self._error = "", ""
        self._start_failures = 0
        self._fatal: RaygymError | None = None
        self._is_made = False
        self._called_s = self._progress_s = clock()
        self._node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        self._frames = FramesPool()
        self._is_sharing = bool(self._node) and self._node == config.service_node
        self._probe = None
        if self._is_sharing:
            self._probe = self._frames.address_of(self._frames.take((1,), np.uint8))
        self._thread: threading.Thread | None = None
        self._watch: threading.Thread | None = None

    def __repr__(self) -> str:
        config = self._config
        return actor_repr("RolloutActor", config.first_slot, config.num_slots, config.show)

    def rollout(
        self,
        weights: Any = None,
        version: int | None = None,
        *,
        timeout_s: float = 1.0,
        plays_on: bool = True,
        can_map: bool = False,
        freed: Sequence[str] = (),
    ) -> Answer:
        """Returns the oldest Rollout that waits, or waits for one.

        Args:
            weights: For the policy's ``set_weights``, or a policy to go on with; taken over
                before the next Rollout is begun. None where they are the same as before.
            version: Their version; None where there are none.
            timeout_s: Longest wait.
            plays_on: False hands out what waits and begins nothing more.
            can_map: Whether the caller can look into shared blocks.
            freed: Tokens of those that it does not look at any more.
        """
        for token in freed:
            self._frames.give_back(token)
        with self._changed:
            self._called_s = self._clock()
            if version is not None:
                self._weights = (weights, version)
            self._must_finish = not plays_on
            self._is_asked = plays_on and not self._rollouts
            self._wants_reports = True
            self._start()
            self._changed.notify_all()
            self._changed.wait_for(self._has_answer, timeout_s)
            self._called_s = self._clock()
            rollout = self._rollouts.popleft() if self._rollouts else None
            if rollout is not None:
                self._is_asked = False
            reports = list(self._reports)
            self._reports.clear()
            self._changed.notify_all()
            rollout, frames = self._crossing(rollout, can_map=can_map)
            return Answer(
                rollout=rollout,
                frames=frames,
                probe=self._probe,
                reports=reports,
                slots=self._slot_reports,
                rollouts_dropped=self._dropped,
                rollouts_waiting=len(self._rollouts),
                stuck_s=self._clock() - self._progress_s,
                is_made=self._is_made,
                failure=self._failure,
                fatal=self._fatal,
                error=self._error,
                start_failures=self._start_failures,
                pid=os.getpid(),
                node=self._node,
            )

    def touch(self) -> int:
        """Tells the actor that somebody is there, and starts it; returns its process."""
        with self._changed:
            self._called_s = self._clock()
            self._start()
        return os.getpid()

    def close(self, *, timeout_s: float = 3.0) -> bool:
        """Ends the playing, and with it the slots; may be called twice.

        Returns:
            Whether it ended within ``timeout_s``.
        """
        with self._changed:
            self._must_stop = True
            self._changed.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        has_ended = not self._thread.is_alive()
        if has_ended:
            self._frames.close()
        return has_ended

    def _crossing(
        self, rollout: Rollout | None, *, can_map: bool
    ) -> tuple[Rollout | None, FramesAddress | None]:
        """Returns a Rollout as it crosses, and where its observations are if they stay here."""
        address = None if rollout is None else self._frames.address_of(rollout.observations)
        if rollout is None or address is None:
            return rollout, None
        if can_map:
            nothing = np.empty(0, rollout.observations.dtype)
            return replace(rollout, observations=nothing, last_observation=nothing), address
        copy = rollout.observations.copy()
        last = rollout.last_observation.copy()
        self._frames.give_back(address.token)
        return replace(rollout, observations=copy, last_observation=last), None

    def _has_answer(self) -> bool:
        is_idle = self._must_finish and not self._wants_reports
        return bool(self._rollouts or self._failure or self._must_stop or is_idle)

    def _start(self) -> None:
        if self._thread is None and not self._must_stop:
            name = f"rollouts-{self._config.number}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._watch = threading.Thread(target=self._await_orphanage, daemon=True)
            self._thread.start()
            self._watch.start()

    def _run(self) -> None:
        sampler: SlotSampler | None = None
        try:
            sampler = self._make_sampler()
            while sampler is not None and self._may_play(sampler):
                self._play(sampler)
        # The thread's last resort: the error travels to the service in the next answer.
        except Exception as error:  # noqa: BLE001
            self._fail(error)
        finally:
            if sampler is not None:
                sampler.close()

    def _fail(self, error: Exception) -> None:
        is_fatal = isinstance(error, ConfigError | MissingDependency)
        text = str(error) if is_fatal else "".join(traceback.format_exception(error))
        log.error("rollouts.failed actor=%d error=%s", self._config.number, text)
        with self._changed:
            self._failure = text
            self._fatal = error if isinstance(error, RaygymError) and is_fatal else None
            self._wants_reports = False
            self._changed.notify_all()

    def _make_sampler(self) -> SlotSampler | None:
        """Makes slots, trying again later and later; None once it must stop."""
        config = self._config
        while not self._must_stop:
            try:
                slots = self._slots_factory(config.first_slot, config.num_slots)
            except (ConfigError, MissingDependency):
                raise
            except RaygymError as error:
                self._back_off(error)
                continue
            try:
                sampler = SlotSampler(
                    slots,
                    self._make_policy(slots),
                    rollout_steps=config.rollout_steps,
                    seed=config.seed,
                    reward_scale=config.reward_scale,
                    first_slot=config.first_slot,
                    seeds_every_episode=config.seeds_every_episode,
                    runs_ahead=config.prefetch > 0,
                    env_id=config.env_id,
                    first_episodes=config.first_episodes or None,
                    empty=self._frames.take if self._is_sharing else np.empty,
                    spectators=Spectators.of(config.show, actor=f"rollouts-{config.number}"),
                )
            except BaseException:
                slots.close()
                raise
            with self._changed:
                self._is_made, self._start_failures, self._error = True, 0, ""
            return sampler
        return None

    def _make_policy(self, slots: Slots) -> SlotPolicy:
        number = self._config.number
        if self._policy is not None:
            return self._policy
        if self._policy_factory is not None:
            self._policy = self._policy_factory(number)
        else:
            self._policy = RandomActions(
                slots.single_action_space, seed=self._config.seed, number=number
            )
        return self._policy

    def _back_off(self, error: RaygymError) -> None:
        with self._changed:
            self._start_failures += 1
            self._error = f"{type(error).__name__}: {error}"
            pause_s = self._config.supervision.retry_after_s(self._start_failures)
            log.warning(
                "rollouts.start_failed actor=%d failures=%d pause_s=%.1f error=%s",
                *(self._config.number, self._start_failures, pause_s, self._error),
            )
            until_s = time.monotonic() + pause_s
            while not self._must_stop and (left_s := until_s - time.monotonic()) > 0:
                self._progress_s = self._clock()
                self._changed.wait(min(left_s, _POLL_S))

    def _may_play(self, sampler: SlotSampler) -> bool:
        """Waits until another Rollout is wanted; returns False once it must stop."""
        with self._changed:
            while not self._must_stop and not self._is_wanted():
                if self._wants_reports:
                    self._keep_reports(sampler)
                self._progress_s = self._clock()
                self._changed.wait(_POLL_S)
            self._progress_s = self._clock()
            weights, self._weights = self._weights, None
        if weights is not None:
            self._take_over(sampler, *weights)
        return not self._must_stop

    def _is_wanted(self) -> bool:
        if self._must_finish:
            return False
        if not self._config.waits_for_learner:
            return True
        return self._is_asked or len(self._rollouts) < self._config.prefetch

    def _take_over(self, sampler: SlotSampler, weights: Any, version: int) -> None:
        if hasattr(weights, "act"):
            self._policy = weights
            weights.weights_version = version
            sampler.set_policy(weights)
            return
        set_weights = getattr(self._policy, "set_weights", None)
        if set_weights is None:
            raise ConfigError(
                f"set_policy: {type(self._policy).__name__} has no set_weights(weights, version); "
                "give it one, or pass a whole policy"
            )
        set_weights(weights, version)

    def _play(self, sampler: SlotSampler) -> None:
        config = self._config
        columns = config.columns or (config.num_slots + 1) // 2
        rollout = sampler.collect(
            columns=columns,
            timeout_s=_POLL_S,
            linger=config.linger if config.columns is None else 0.0,
        )
        with self._changed:
            self._progress_s = self._clock()
            if rollout is not None:
                if not config.waits_for_learner and len(self._rollouts) >= max(1, config.prefetch):
                    self._drop(self._rollouts.popleft())
                self._rollouts.append(rollout)
                self._is_asked = False
            if rollout is not None or self._wants_reports:
                self._keep_reports(sampler)

    def _drop(self, rollout: Rollout) -> None:
        self._dropped += 1
        address = self._frames.address_of(rollout.observations)
        if address is not None:
            self._frames.give_back(address.token)

    def _keep_reports(self, sampler: SlotSampler) -> None:
        reports = sampler.reports()
        self._slot_reports = list(sampler.slot_reports)
        self._reports.extend(reports)
        self._wants_reports = False
        self._changed.notify_all()

    def _await_orphanage(self) -> None:
        """Ends the process once nobody has called for long; its Remotes are given back first."""
        limit_s = self._config.orphan_timeout_s
        with self._changed:
            while not self._must_stop:
                left_s = self._called_s + limit_s - self._clock()
                if left_s <= 0:
                    break
                self._changed.wait(min(left_s, 1.0))
            else:
                return
        log.warning("rollouts.orphaned actor=%d seconds=%.0f", self._config.number, limit_s)
        self.close(timeout_s=limit_s)
        self._end(1)
