"""Steps one environment in a thread of its own, in its own time.

Full rollouts lie in a bounded queue. In real time learning never makes the environment wait: if
nobody takes them the oldest is dropped and counted. In lock-step it waits, and nothing is lost.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Float32Array, Outcome, Rollout, UInt8Array
from raygym.errors import ConfigError, MissingDependency, RaygymError
from raygym.service.episode_log import log_episode
from raygym.service.reports import TIMES_MS, Claim, EpisodeRecord, SamplerReport
from raygym.service.rollouts import RolloutBuilder, Step
from raygym.service.spectators import Spectators
from raygym.vector.supervision import doubling_pause_s

log = logging.getLogger(__name__)


class ActingPolicy(Protocol):
    """What the sampler asks of a policy."""

    weights_version: int
    random: np.random.Generator

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the recurrent state at the start of an episode, each float32[batch, ...]."""
        ...

    def act(
        self, observations: UInt8Array, state: tuple[Float32Array, ...]
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Returns actions, log-probabilities, values (each [B]) and the state after."""
        ...

    def values(self, observations: UInt8Array, state: tuple[Float32Array, ...]) -> Float32Array:
        """Returns float32[B]."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How a sampler works."""

    rollout_steps: int = 20
    """T."""
    queue_rollouts: int = 5
    """Most rollouts that wait to be learned from."""
    waits_for_learner: bool = False
    """Whether a full queue makes the environment wait, instead of losing its oldest rollout."""
    reward_scale: float = 1.0
    """Factor between a reward and what is learned from; scores are not scaled."""
    seeds_every_episode: bool = False
    """Resets each episode with a seed of its own; otherwise only the first one and that after a
    failure, while the remote starts the others itself."""
    first_retry_s: float = 1.0
    """Pause after a first failed start; it doubles with each further one."""
    longest_retry_s: float = 15.0
    """Longest such pause."""


class Sampler:
    """Plays episode after episode and hands out rollouts.

    Args:
        slot: Number of this slot, in reports.
        env_factory: Makes the environment; called in the sampler's thread.
        policy: Acts; its ``random`` also draws the seeds of resets.
        config: How it works.
        env_id: For the log.
        spectators: They look on; closed when the thread ends.
        clock: Seconds, steady.
    """

    def __init__(
        self,
        *,
        slot: int,
        env_factory: Callable[[], gymnasium.Env[UInt8Array, Any]],
        policy: ActingPolicy,
        config: SamplerConfig,
        env_id: str = "",
        spectators: Spectators | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slot = slot
        self._env_factory = env_factory
        self._policy = policy
        self._config = config
        self._env_id = env_id
        self._spectators = Spectators() if spectators is None else spectators
        self._slots = np.array([slot])
        self._num_episodes = self._num_rollouts = self._failed_steps = 0
        self._clock = clock
        self._must_stop = threading.Event()
        self._changed = threading.Condition()
        self._rollouts: collections.deque[Rollout] = collections.deque()
        self._report = SamplerReport(slot=slot, random_state=policy.random.bit_generator.state)
        self._thread = threading.Thread(target=self._run, name=f"sampler-{slot}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def take(self, *, timeout_s: float) -> list[Rollout]:
        """Returns the rollouts that wait, oldest first; waits for one if there is none.

        Returns:
            None but an empty list if none came in time, or the sampler ended.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._rollouts or self._report.state in ("failed", "stopped"), timeout_s
            )
            taken = list(self._rollouts)
            self._rollouts.clear()
            self._changed.notify_all()
            return taken

    def report(self) -> SamplerReport:
        """Returns what happened since the last call."""
        with self._changed:
            done = self._report
            self._report = SamplerReport(
                slot=self._slot,
                state=done.state,
                remotes_started=done.remotes_started,
                remotes_lost=done.remotes_lost,
                rollouts_dropped=done.rollouts_dropped,
                start_failures=done.start_failures,
                error=done.error,
                is_fatal=done.is_fatal,
                remote=done.remote,
                random_state=done.random_state,
                remote_id=done.remote_id,
                lease_id=done.lease_id,
            )
        self._spectators.reported([done])
        return done

    def stop(self, *, timeout_s: float) -> bool:
        """Ends the thread, which closes the environment.

        Returns:
            Whether it ended within ``timeout_s``.
        """
        self._must_stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._must_stop.is_set():
                self._live_once()
        # The thread's last resort: the error travels to the learner in the report.
        except Exception as error:  # noqa: BLE001
            is_fatal = isinstance(error, ConfigError | MissingDependency)
            text = str(error) if is_fatal else "".join(traceback.format_exception(error))
            log.error("sampler.failed slot=%d error=%s", self._slot, text)
            self._set(state="failed", error=text, is_fatal=is_fatal)
        else:
            self._set(state="stopped")
        finally:
            self._spectators.close()

    def _live_once(self) -> None:
        """Makes an environment and plays until it must stop, or a start fails."""
        env: gymnasium.Env[UInt8Array, Any] | None = None
        try:
            env = self._env_factory()
            self._play(env)
        except (ConfigError, MissingDependency):
            raise
        except RaygymError as error:
            self._note_failed_start(error)
        finally:
            if env is not None:
                self._note_remotes(env)
                # Gymnasium leaves it without annotations.
                env.close()  # type: ignore[no-untyped-call]

    def _note_failed_start(self, error: RaygymError) -> None:
        with self._changed:
            self._report.start_failures += 1
            failures = self._report.start_failures
        pause_s = doubling_pause_s(
            self._config.first_retry_s, self._config.longest_retry_s, failures
        )
        log.warning("start.failed slot=%d failures=%d error=%s", self._slot, failures, error)
        self._set(state="retrying", error=f"{type(error).__name__}: {error}")
        self._must_stop.wait(pause_s)

    def _play(self, env: gymnasium.Env[UInt8Array, Any]) -> None:
        policy = self._policy
        state = policy.initial_state(1)
        builder: RolloutBuilder | None = None
        seed: int | None = int(policy.random.integers(2**31))
        while not self._must_stop.is_set():
            observation, info = env.reset(seed=seed)
            self._note_start(env, info)
            self._show(observation, 0.0)
            state = policy.initial_state(1)
            episode = _Episode(self._clock())
            while not self._must_stop.is_set() and not episode.is_over:
                if builder is None:
                    builder = RolloutBuilder(
                        self._config.rollout_steps, state, policy.weights_version
                    )
                action, log_probability, value, state = policy.act(observation[None], state)
                observed = observation
                observation = self._step(env, int(action[0]), observed, episode)
                builder.add(
                    Step(
                        observation=observed,
                        action=int(action[0]),
                        log_probability=float(log_probability[0]),
                        value=float(value[0]),
                        reward=episode.last_reward * self._config.reward_scale,
                        terminated=episode.terminated,
                        truncated=episode.truncated,
                        is_ok=episode.outcome is Outcome.OK,
                        final_value=self._final_value(observation, state, episode),
                    )
                )
                if builder.is_full:
                    self._hand_out(builder.finish(observation))
                    builder = None
            if episode.is_over:
                self._note_episode(env, episode)
            needs_seed = self._config.seeds_every_episode or episode.outcome is not Outcome.OK
            seed = int(policy.random.integers(2**31)) if needs_seed else None

    def _step(
        self,
        env: gymnasium.Env[UInt8Array, Any],
        action: int,
        observed: UInt8Array,
        episode: _Episode,
    ) -> UInt8Array:
        """Takes a step, notes it in ``episode`` and returns the observation after it."""
        began_s = self._clock()
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except RaygymError as error:
            observation, reward, terminated, truncated = observed, 0.0, False, True
            info = {"outcome": str(Outcome.INFRA_FAILURE), "reason": str(error)}
        episode.note(float(reward), terminated, truncated, info)
        self._failed_steps += info.get("outcome", Outcome.OK) != Outcome.OK
        self._show(observation, self._clock() - began_s)
        with self._changed:
            report = self._report
            report.steps += 1
            for name in TIMES_MS:
                if info.get(name) is not None:
                    report.times_ms.setdefault(name, []).append(float(info[name]))
            for name, number in info.get("stats", {}).items():
                if isinstance(number, int | float):
                    report.counts[name] = report.counts.get(name, 0.0) + number
        return observation

    def _show(self, observation: UInt8Array, step_s: float) -> None:
        if self._spectators:
            self._spectators.stepped(self._slots, observation[None], step_s)

    def _final_value(
        self, observation: UInt8Array, state: tuple[Float32Array, ...], episode: _Episode
    ) -> float:
        is_cut = episode.truncated and not episode.terminated and episode.outcome is Outcome.OK
        return float(self._policy.values(observation[None], state)[0]) if is_cut else 0.0

    def _hand_out(self, rollout: Rollout) -> None:
        with self._changed:
            if self._config.waits_for_learner:
                self._changed.wait_for(lambda: self._has_room() or self._must_stop.is_set())
            if not self._has_room():
                self._rollouts.popleft()
                self._report.rollouts_dropped += 1
            self._rollouts.append(rollout)
            self._num_rollouts += 1
            self._report.fabricated_zeros += self._count_fabricated(rollout)
            self._report.random_state = self._policy.random.bit_generator.state
            self._changed.notify_all()

    def _count_fabricated(self, rollout: Rollout) -> int:
        """Returns how many failed steps a Rollout does not mask."""
        failed, self._failed_steps = self._failed_steps, 0
        return max(0, failed - int((~rollout.mask).sum()))

    def _has_room(self) -> bool:
        return len(self._rollouts) < self._config.queue_rollouts

    def _note_start(self, env: gymnasium.Env[UInt8Array, Any], info: Mapping[str, Any]) -> None:
        self._note_remotes(env)
        self._set(
            state="running",
            start_failures=0,
            error="",
            remote_id=str(info.get("remote_id") or ""),
            lease_id=str(info.get("lease_id") or ""),
        )
        claim = Claim.of(info)
        if claim is not None:
            with self._changed:
                self._report.claims.append(claim)

    def _note_remotes(self, env: gymnasium.Env[UInt8Array, Any]) -> None:
        inner = env.unwrapped
        self._set(
            remotes_started=int(getattr(inner, "remotes_started", 0)),
            remotes_lost=int(getattr(inner, "remotes_lost", 0)),
            remote=getattr(inner, "remote", None),
        )

    def _note_episode(self, env: gymnasium.Env[UInt8Array, Any], episode: _Episode) -> None:
        is_ok = episode.outcome is Outcome.OK
        record = EpisodeRecord(
            slot=self._slot,
            score=episode.score,
            steps=episode.steps,
            duration_s=self._clock() - episode.started_s,
            outcome=episode.outcome,
            reason=episode.reason,
            episode=self._num_episodes,
            rollout=f"{self._spectators.actor or 'rollouts'}-{self._num_rollouts}",
            remote_id=self._report.remote_id,
            lease_id=self._report.lease_id,
            node=self._spectators.node,
        )
        self._num_episodes += 1
        log_episode(record, env_id=self._env_id)
        self._spectators.ended(record)
        # One report tells of a loss and of the episode that ended with it.
        with self._changed:
            self._note_remotes(env)
            self._report.episodes.append(record)
            if not is_ok:
                self._report.state = "starting"

    def _set(self, **changes: Any) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(self._report, name, value)
            self._changed.notify_all()


class _Episode:
    """The running account of one episode."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.score = 0.0
        self.steps = 0
        self.last_reward = 0.0
        self.terminated = False
        self.truncated = False
        self.outcome = Outcome.OK
        self.reason = ""

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated

    def note(
        self, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]
    ) -> None:
        self.score += reward
        self.steps += 1
        self.last_reward = reward
        self.outcome = Outcome(info.get("outcome", Outcome.OK))
        has_failed = self.outcome is not Outcome.OK
        self.terminated = bool(terminated) and not has_failed
        self.truncated = bool(truncated) or has_failed
        self.reason = str(info.get("reason") or "") if has_failed else ""
