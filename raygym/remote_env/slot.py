"""One slot: an environment with a Remote behind it that is replaced when it is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium

from raygym.catalog import EnvSpec
from raygym.config import VncOptions
from raygym.core import Backend, Remote, Timestep, UInt8Array
from raygym.errors import ProtocolError, RemoteError, RemoteFailedToStart, SessionLost
from raygym.remote_env.claims import Claims
from raygym.remote_env.connection import Connection, View
from raygym.remote_env.controls import PROBE, Input, KeyInput, make_controls
from raygym.remote_env.episode import Episode
from raygym.remote_env.lag import LagMeter, lag_info
from raygym.remote_env.observations import ObservationMaker
from raygym.remote_env.readiness import Ready, make_ready
from raygym.remote_env.slot_config import SlotConfig
from raygym.remote_env.tenancy import Tenancy
from raygym.remote_env.vnc_session import VncStats
from raygym.wire.rewarder_client import RewardBatch
from raygym.wire.timing import TimingMark

logger = logging.getLogger(__name__)

_AUTO_RESET_S = 1.0
"""How long after a ``done`` a reset still takes the episode that the Remote starts itself."""


class MakeReady(Protocol):
    """Signature of ``readiness.make_ready``, for tests that put another in its place."""

    def __call__(
        self,
        remote: Remote,
        spec: EnvSpec,
        *,
        seed: int | None,
        options: VncOptions | None,
        timeout_s: float,
        silence_timeout_s: float = 10.0,
        log_tail: Callable[[], str] = ...,
    ) -> Ready:
        """See ``readiness.make_ready``."""
        ...


class Slot:
    """An environment without a clock: whoever owns it says when to act and to observe.

    It owns the Remotes that it starts and its conversations with them, but not the
    backend. Nothing that happens to a Remote raises out of ``act`` or ``observe``.

    Args:
        config: What to play.
        backend: Where Remotes come from.
        make_ready: Connects to a Remote.
        sleep: Waits between tries, in seconds.
    """

    def __init__(
        self,
        config: SlotConfig,
        backend: Backend,
        *,
        make_ready: MakeReady = make_ready,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self._backend = backend
        self._make_ready = make_ready
        self._sleep = sleep
        self._controls = make_controls(
            config.spec, takes_events=config.actions == "events", screen_px=config.screen_px
        )
        self._maker = ObservationMaker(config.spec.region, config.observation)
        self._remote: Remote | None = None
        self._tenancy: Tenancy | None = None
        self._connection: Connection | None = None
        self._view: View | None = None
        self._observation = self._maker.blank()
        self._lag = LagMeter()
        self._stats = VncStats()
        self._episode = Episode(None)
        self._is_closing = False
        self.remotes_started = 0
        self.remotes_lost = 0
        self._claims = Claims()

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Discrete key sets, or lists of events."""
        return self._controls.space

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """uint8[height, width, 1 or 3]."""
        return self._maker.space

    @property
    def remote_id(self) -> str | None:
        """Id of the Remote behind it; None before the first reset."""
        remote = self._remote
        return None if remote is None else remote.id

    @property
    def remote(self) -> Remote | None:
        """The Remote behind it; None before the first reset."""
        return self._remote

    @property
    def timing_mark(self) -> TimingMark | None:
        """What the timing strip of the frame observed last said; None without a strip."""
        view = self._view
        return None if view is None else view.mark

    def reset(self, *, seed: int | None = None) -> Timestep:
        """Starts an episode, on a new Remote where there is none or it was lost.

        Blocks until a frame of the new episode is there.

        Raises:
            RemoteFailedToStart: No Remote got ready in ``start_tries`` tries; it names
                the causes of all.
            ConfigError: A setting makes no sense; it is not tried again.
            MissingDependency: A program that the runtime needs is absent.
        """
        causes: list[Exception] = []
        for attempt in range(self.config.start_tries):
            if attempt:
                self._sleep(self.config.backoff_s * 2 ** (attempt - 1))
            try:
                return self._try_reset(seed)
            except (RemoteError, ProtocolError) as error:
                logger.warning("%s: try %d: %s", self.config.client_id, attempt + 1, error)
                causes.append(error)
                if self._remote is not None:
                    is_new = self._connection is None
                    self._claims.gone("start_failed" if is_new else "infra_failure")
                self._drop_remote(is_lost=self._remote is not None)
                if self._is_closing:
                    break
            except BaseException:
                self._drop_remote(is_lost=False)
                raise
        raise RemoteFailedToStart(
            f"{self.config.spec.id} for {self.config.client_id}: no remote got ready in "
            f"{len(causes)} tries:\n" + "\n".join(f"{i + 1}. {e}" for i, e in enumerate(causes)),
            causes=[str(cause) for cause in causes],
        ) from causes[-1]

    def act(self, action: Any) -> None:
        """Sends an action at once; does nothing while the Remote is lost.

        Raises:
            ConfigError: It is no action of the action space.
        """
        now_s = time.time()
        self._lag.called(now_s)
        inputs = self._controls.inputs(action)
        if not any(isinstance(i, KeyInput) for i in inputs) and self._lag.wants_probe(now_s):
            inputs = [*inputs, *PROBE]
        self._send(inputs)

    def wait_frame(self, *, not_before_s: float, until_s: float) -> float | None:
        """Waits for a frame newer than the one observed last.

        Args:
            not_before_s: Earliest time of arrival that counts, of ``time.monotonic``.
            until_s: When to stop waiting, of ``time.monotonic``.

        Returns:
            When the newest frame arrived, or None if there is no such frame.
        """
        if self._connection is None:
            return None
        number = 0 if self._view is None else self._view.number
        try:
            is_there = self._connection.wait_frame(
                newer_than=number, not_before_s=not_before_s, until_s=until_s
            )
        except SessionLost:
            return None
        if not is_there:
            return None
        self._look()
        return None if self._view is None else self._view.arrived_s

    def observe(self) -> Timestep:
        """Returns the newest frame and what was rewarded since the last call.

        Once the episode is over it returns the same end, without reward, until ``reset``.
        """
        connection = self._connection
        if self._episode.is_over:
            return self._timestep(None)
        batch = connection.pop() if connection is not None else None
        lost = connection.lost_reason() if connection is not None else "no remote: reset first"
        if not lost and self._tenancy is not None and (lost := self._tenancy.lost()):
            self._episode.is_preempted = True
        if not lost:
            self._look()
        if batch is not None:
            self._episode.add(batch)
        if lost and not self._episode.is_over:
            self._note_loss(lost)
        return self._timestep(batch)

    def last(self) -> UInt8Array:
        """Returns the last observation again."""
        return self._observation

    def refresh(self) -> UInt8Array:
        """Returns the newest frame as an observation; rewards wait for ``observe``."""
        if self._connection is not None:
            self._look()
        return self._observation

    def picture(self) -> UInt8Array | None:
        """Returns the region as it was observed last, unscaled: uint8[h, w, 3], a copy."""
        view = self._view  # a reset in another thread may drop it at any moment
        return None if view is None else view.picture[:, :, :3].copy()

    def stop(self) -> None:
        """Makes a ``reset`` in another thread try no further Remote."""
        self._is_closing = True

    def close(self) -> None:
        """Releases the keys and gives the Remote back. May be called twice."""
        self.stop()
        connection = self._connection
        is_whole = connection is not None and connection.lost_reason() is None
        self._drop_remote(is_lost=False, is_whole=is_whole and not self._episode.lost)

    def abandon(self) -> None:
        """Closes it, and ends its Remote instead of giving it back."""
        self.stop()
        self._drop_remote(is_lost=self._remote is not None and not self._episode.lost)

    def _try_reset(self, seed: int | None) -> Timestep:
        timeout_s = self.config.start_timeout_s
        if self._connection is not None and self._connection.lost_reason() is not None:
            self._note_gone()
            self._drop_remote(is_lost=not self._episode.lost)
        if self._episode.lost:
            self._note_gone()
            self._drop_remote(is_lost=False)
        if self._tenancy is not None:
            is_preempted = bool(self._tenancy.lost())
            if is_preempted or self._tenancy.is_worn_after(self._episode.steps):
                self._claims.gone("preempted" if is_preempted else "worn")
                self._drop_remote(is_lost=is_preempted)
        if self._connection is None:
            ready = self._start(seed)
            self._connection, self._view = ready.connection, ready.view
            self._episode = Episode(ready.episode_id)
            self._lag = LagMeter()
            self._stats = ready.connection.vnc_stats
        else:
            self._send(self._controls.release())
            deadline_s = time.monotonic() + timeout_s
            episode_id = self._next_episode(self._connection, seed)
            self._view = self._connection.await_fresh_view(
                timeout_s=max(0.1, deadline_s - time.monotonic())
            )
            self._episode = Episode(episode_id)
        self._lag.seen(self._view.mark, self._connection.skew_s)
        self._observation = self._maker.make(self._view.picture)
        if self._tenancy is not None:
            self._tenancy.begin_episode()
        return self._timestep(None)

    def _next_episode(self, connection: Connection, seed: int | None) -> str | None:
        done = self._episode
        timeout_s = self.config.start_timeout_s
        is_fresh = done.is_over and time.monotonic() - done.done_at_s < _AUTO_RESET_S
        if seed is None and is_fresh and done.id is not None:
            return connection.await_episode(after=done.id, timeout_s=timeout_s)
        return connection.reset(seed=seed, timeout_s=timeout_s)

    def _start(self, seed: int | None) -> Ready:
        config = self.config
        deadline_s = time.monotonic() + config.start_timeout_s
        self._claims.begin()
        self._remote = self._backend.start(config.spec.runtime, client_id=config.client_id)
        self._tenancy = Tenancy(self._backend, self._remote.id)
        self.remotes_started += 1
        remote_id = self._remote.id
        if self._is_closing:
            raise RemoteFailedToStart(f"{remote_id}: its slot was closed while it started")
        ready = self._make_ready(
            self._remote,
            config.spec,
            seed=seed,
            options=config.vnc_options,
            timeout_s=max(0.1, deadline_s - time.monotonic()),
            silence_timeout_s=config.silence_timeout_s,
            log_tail=lambda: self._backend.log_tail(remote_id),
        )
        self._claims.done()
        return ready

    def _note_gone(self) -> None:
        if self._remote is not None:
            self._claims.gone("preempted" if self._episode.is_preempted else "infra_failure")

    def _look(self) -> None:
        """Takes the newest frame, if there is one that was not observed yet."""
        assert self._connection is not None  # noqa: S101  the callers checked
        view = self._connection.view()
        if view is None or (self._view is not None and view.number == self._view.number):
            return
        self._view = view
        self._lag.seen(view.mark, self._connection.skew_s)
        self._observation = self._maker.make(view.picture)

    def _send(self, inputs: list[Input]) -> None:
        if self._connection is None or not inputs:
            return
        try:
            self._connection.send(inputs)
        except SessionLost as error:
            logger.debug("%s: %s", self.remote_id, error)
            return
        keys = sum(isinstance(item, KeyInput) for item in inputs)
        if keys:
            self._lag.sent(keys, time.time())

    def _note_loss(self, reason: str) -> None:
        logger.warning("%s: lost: %s", self.remote_id, reason)
        self.remotes_lost += self._connection is not None
        self._episode.lost = reason

    def _timestep(self, batch: RewardBatch | None) -> Timestep:
        episode = self._episode
        connection = self._connection
        now_s = time.time()
        skew_s = connection.skew_s if connection is not None else None
        rewarded_s = batch.newest_sent_at_s if batch is not None and batch.count else None
        lag = self._lag.lag(now_s, skew_s, rewarded_s)
        outcome = episode.outcome_now
        info: dict[str, Any] = dict(batch.info) if batch is not None else {}
        if batch is not None and batch.texts:
            info["text"] = list(batch.texts)
        info.update(lag_info(lag, skew_s))
        info.update(
            outcome=outcome.value,
            episode_id=episode.id,
            episode_score=episode.score,
            episode_steps=episode.steps,
            remote_id=self.remote_id,
            seed=episode.seed,
            stats=self._stats_since(batch),
            **self._claims.news(),
        )
        if self._tenancy is not None and self._tenancy.lease_id:
            info["lease_id"] = self._tenancy.lease_id
        if episode.instruction:
            info["instruction"] = episode.instruction
        if episode.lost:
            info["reason"] = episode.lost
        self._lag.returned(time.time())
        return Timestep(
            observation=self._observation,
            reward=float(batch.reward) if batch is not None else 0.0,
            terminated=episode.is_terminated,
            truncated=episode.is_truncated or bool(episode.lost),
            outcome=outcome,
            lag=lag,
            info=info,
        )

    def _stats_since(self, batch: RewardBatch | None) -> Mapping[str, float]:
        stats = self._connection.vnc_stats if self._connection is not None else self._stats
        before, self._stats = self._stats, stats
        return {
            "vnc_updates": stats.updates - before.updates,
            "vnc_bytes": stats.bytes - before.bytes,
            "vnc_pixels": stats.pixels - before.pixels,
            "vnc_decode_s": stats.decode_s - before.decode_s,
            "rewards": 0 if batch is None else batch.count,
        }

    def _drop_remote(self, *, is_lost: bool, is_whole: bool = False) -> None:
        connection, remote = self._connection, self._remote
        if connection is not None:
            self._send(self._controls.release())
        self._connection = self._remote = self._view = self._tenancy = None
        self._controls.release()
        self.remotes_lost += is_lost
        if connection is not None:
            connection.close()
        if remote is None:
            return
        if is_whole:
            self._backend.release(remote.id)
        else:
            self._backend.remove(remote.id)
