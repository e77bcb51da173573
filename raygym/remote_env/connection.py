"""Both Sessions with one Remote, as one environment uses them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raygym.catalog import EnvSpec, Region
from raygym.core import Remote, UInt8Array
from raygym.errors import FrameTimeout, RaygymError
from raygym.remote_env.controls import Input
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.vnc_session import VncSession, VncStats
from raygym.wire import timing
from raygym.wire.rewarder_client import RewardBatch
from raygym.wire.timing import TimingMark


@dataclass(frozen=True)
class View:
    """The environment's region as one frame showed it; overwritten by the next."""

    picture: UInt8Array
    """uint8[region.height, region.width, 4]: R, G, B and a byte of no meaning."""
    mark: TimingMark | None
    """What the timing strip said; None without a strip, or where it could not be read."""
    arrived_s: float
    """When it arrived, in seconds of ``time.monotonic``."""
    number: int
    """Counts the frames of the Connection, from 1."""


class Connection:
    """Both Sessions with one Remote; they belong to it and close with it.

    Args:
        remote: The Remote.
        spec: Which environment is played.
        vnc: Conversation about its screen.
        rewarder: Conversation about its rewards; None for a screen without rewards.
        silence_timeout_s: After this long without any message the Remote counts as lost.
    """

    def __init__(
        self,
        remote: Remote,
        spec: EnvSpec,
        vnc: VncSession,
        rewarder: RewarderSession | None,
        *,
        silence_timeout_s: float = 10.0,
    ) -> None:
        self.remote = remote
        self._spec = spec
        self._vnc = vnc
        self._rewarder = rewarder
        self._silence_timeout_s = silence_timeout_s
        self._strip: Region | None = None

    @property
    def has_strip(self) -> bool:
        """Whether the Remote promised a timing strip."""
        return self._strip is not None

    @property
    def screen_px(self) -> tuple[int, int]:
        """Width and height of the screen."""
        return self._vnc.screen_px

    @property
    def vnc_stats(self) -> VncStats:
        """What the screen's session has received since it began."""
        return self._vnc.stats

    @property
    def skew_s(self) -> float | None:
        """The Remote's clock minus ours, in seconds; None where it is unknown."""
        skew = self._rewarder.clock_skew_s if self._rewarder is not None else None
        return None if skew is None else sum(skew) / 2

    def watch(self) -> None:
        """Looks at the environment's region, and at the timing strip that was promised.

        Raises:
            SessionLost: The screen is too small for them.
        """
        manifest = (self._rewarder.manifest if self._rewarder is not None else None) or {}
        place = manifest.get("timing_strip")
        regions: Sequence[Region] = [self._spec.region]
        if place is not None:
            self._strip = Region(int(place[0]), int(place[1]), timing.WIDTH_PX, timing.HEIGHT_PX)
            regions = [self._spec.region, self._strip]
        self._vnc.watch(*regions)

    def wait_frame(self, *, newer_than: int, not_before_s: float = 0.0, until_s: float) -> bool:
        """Waits for a frame; see ``VncSession.wait_frame``."""
        return self._vnc.wait_frame(
            newer_than=newer_than, not_before_s=not_before_s, until_s=until_s
        )

    def view(self) -> View | None:
        """Returns the newest frame without waiting, or None before the first."""
        snapshot = self._vnc.take()
        if snapshot is None:
            return None
        mark = None
        if self._strip is not None:
            mark = timing.read(snapshot.pictures[1][:, :, :3], 0, 0)
        return View(snapshot.pictures[0], mark, snapshot.arrived_s, snapshot.number)

    def send(self, inputs: Iterable[Input]) -> None:
        """Sends inputs; raises SessionLost."""
        self._vnc.send(inputs)

    def pop(self) -> RewardBatch | None:
        """Returns what the reward channel said since the last call; None without one."""
        return None if self._rewarder is None else self._rewarder.pop()

    def reset(self, *, seed: int | None, timeout_s: float) -> str | None:
        """Starts an episode and waits until it runs; see ``RewarderSession.reset``.

        Returns:
            The id of the episode; None without a reward channel.
        """
        if self._rewarder is None:
            return None
        return self._rewarder.reset(
            self._spec.id, seed=seed, fps=self._spec.fps, timeout_s=timeout_s
        )

    def await_episode(self, *, after: str, timeout_s: float) -> str | None:
        """Waits for the episode that follows ``after``; see ``RewarderSession``."""
        if self._rewarder is None:
            return None
        return self._rewarder.await_episode(after=after, timeout_s=timeout_s)

    def await_fresh_view(self, *, timeout_s: float) -> View:
        """Waits for a frame that was painted after this call.

        Raises:
            FrameTimeout: None came, or its timing strip could not be read.
            SessionLost: The conversation has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        called_s = time.time() + (self.skew_s or 0.0)
        newest = self.view()
        number = newest.number if newest is not None else 0
        if self._strip is None:
            self._vnc.request_whole_screen()
        unread = 0
        while self._vnc.wait_frame(newer_than=number, until_s=deadline_s):
            view = self.view()
            assert view is not None  # noqa: S101  wait_frame saw one
            if self._strip is None:
                return view
            if view.mark is None:
                unread += 1
            elif self.skew_s is None or timing.age_ms(called_s, view.mark.painted_at_ms) <= 0:
                return view
            number = view.number
        seen = f"{unread} frames came whose timing strip could not be read" if unread else "none"
        raise FrameTimeout(
            f"{self.remote.id}: no frame of the new episode within {timeout_s:.1f} s ({seen})"
        )

    def lost_reason(self) -> str | None:
        """Returns why the Remote counts as lost now, or None while all is well."""
        sessions: Sequence[VncSession | RewarderSession | None] = (self._vnc, self._rewarder)
        for session in sessions:
            error: RaygymError | None = session.lost if session is not None else None
            if error is not None:
                return error.message
        now_s = time.monotonic()
        if self._rewarder is not None:
            quiet_s = now_s - self._rewarder.last_message_s
            if quiet_s > self._silence_timeout_s:
                return f"no message on the reward channel for {quiet_s:.1f} s"
        if self._strip is not None:
            quiet_s = now_s - self._vnc.last_arrival_s
            if quiet_s > self._silence_timeout_s:
                return f"no frame for {quiet_s:.1f} s"
        return None

    def close(self) -> None:
        """Closes both Sessions. May be called twice."""
        self._vnc.close()
        if self._rewarder is not None:
            self._rewarder.close()
