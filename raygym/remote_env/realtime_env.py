"""One Remote as a Gymnasium environment, in real time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium

from raygym.core import Backend, Remote, UInt8Array
from raygym.errors import ConfigError
from raygym.remote_env.pacing import Pacer
from raygym.remote_env.slot import Slot
from raygym.wire.timing import TimingMark


class RealtimeEnv(gymnasium.Env[UInt8Array, Any]):
    """One Remote as a Gymnasium environment, in real time.

    The Remote runs on between steps. ``step`` sends the action at once, waits until its
    time is up and returns the newest frame, with the rewards since the step before. A
    Remote that is lost ends the episode as truncated, with ``info["outcome"]``
    ``infra_failure``; the next ``reset`` replaces it.

    ``info`` of each step: ``outcome``, ``reaction_time_ms``, ``observation_lag_ms``,
    ``action_lag_ms``, ``reward_lag_ms``, ``clock_skew_ms`` (floats, or None where not
    measured), ``episode_id``, ``episode_score``, ``episode_steps``, ``remote_id``, ``seed``,
    ``stats``, and where they apply ``lease_id``, ``reason``, ``text``, ``game_state``.

    Args:
        slot: What is behind it; it is closed with the environment.
        fps: Steps a second; ``math.inf`` ends each step at the next frame.
        render_mode: ``rgb_array`` or None.
        backend: Closed with the environment, where it belongs to it.
        clock: Seconds that only grow, as ``time.monotonic``.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        fps: float,
        render_mode: str | None = None,
        backend: Backend | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": slot.config.spec.fps if math.isinf(fps) else fps,
        }
        self.render_mode = render_mode
        self.action_space = slot.action_space
        self.observation_space = slot.observation_space
        self.fps = fps
        self._slot = slot
        self._pacer = Pacer(fps, slot.config.spec.fps)
        self._backend = backend
        self._clock = clock
        self._is_reset = False

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        return self._slot.remotes_started

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        return self._slot.remotes_lost

    @property
    def remote_id(self) -> str | None:
        """Id of the Remote behind it now; None before the first reset."""
        return self._slot.remote_id

    @property
    def remote(self) -> Remote | None:
        """The Remote behind it now, if there is one."""
        return self._slot.remote

    @property
    def timing_mark(self) -> TimingMark | None:
        """What the timing strip of the newest observed frame said; None without a strip."""
        return self._slot.timing_mark

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8Array, dict[str, Any]]:
        """Starts an episode and returns its first frame.

        Right after the end of an episode, without a seed, it is the one that the Remote
        has begun by itself.

        Args:
            seed: Sent to the Remote; None lets it choose.
            options: Not used.

        Returns:
            The observation and the info.

        Raises:
            RemoteFailedToStart: No Remote got ready.
        """
        super().reset(seed=seed, options=options)
        timestep = self._slot.reset(seed=seed)
        self._pacer.start(self._clock())
        self._is_reset = True
        return timestep.observation, dict(timestep.info)

    def step(self, action: Any) -> tuple[UInt8Array, float, bool, bool, dict[str, Any]]:
        """Acts, waits for the time of the step and returns what came of it.

        Args:
            action: As the action space says.

        Returns:
            Observation, reward, terminated, truncated and info.

        Raises:
            ConfigError: The action makes no sense, or there was no reset yet.
        """
        if not self._is_reset:
            raise ConfigError("step: call reset first")
        self._slot.act(action)
        window = self._pacer.window(self._clock())
        arrived_s = self._slot.wait_frame(not_before_s=window.opens_s, until_s=window.closes_s)
        timestep = self._slot.observe()
        self._pacer.finish(self._clock(), arrived_s)
        return (
            timestep.observation,
            timestep.reward,
            timestep.terminated,
            timestep.truncated,
            dict(timestep.info),
        )

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns the region at full size, uint8[height, width, 3]; None without a mode."""
        return self._slot.picture() if self.render_mode == "rgb_array" else None

    def abandon(self) -> None:
        """Closes it, and ends its Remote instead of giving it back."""
        self._slot.abandon()
        self.close()

    def close(self) -> None:
        """Ends the Remote and all that belongs to it. May be called twice."""
        self._slot.close()
        if self._backend is not None:
            self._backend.close()
        self._is_reset = False
