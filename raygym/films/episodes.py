"""Films whole episodes on a schedule: a spectator that hands pictures to a FilmStudio."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.config import check_range
from raygym.films.pictures import can_be_shown, newest_picture
from raygym.films.studio import MOST_WAITING_BYTES, FilmStudio, Take
from raygym.service.reports import EpisodeRecord, SamplerReport
from raygym.service.spectators import Int64Array, Show

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
"""Whoever closes an actor gives it about ten seconds."""


@dataclass(frozen=True, kw_only=True)
class FilmSettings:
    """What is filmed and where it goes; it pickles."""

    directory: Path
    """Where the films go, on the machine where the slot is played."""
    fps: float
    """Steps a second of the environment's own time."""
    channels: int = 1
    """Of one picture of an observation: 1 (grey) or 3 (RGB)."""
    slots: Sequence[int] = (0,)
    """Whose episodes are filmed."""
    every_episodes: int = 50
    """Films the first episode of a slot and every so many after it; 0: none by count."""
    every_minutes: float = 5.0
    """Films the next episode when so much time went by without a film; 0: none by time."""
    least_gap_s: float = 20.0
    """Least time from the beginning of a film to that of the slot's next."""
    kept: int = 10
    """How many newest films of a slot stay, beside its best whole episode."""
    most_waiting_bytes: int = MOST_WAITING_BYTES
    """Most pictures, in bytes, that wait to be encoded; a film that needs more is dropped."""

    def __post_init__(self) -> None:
        check_range("FilmSettings", "fps", self.fps, 0.01, 1000)
        check_range("FilmSettings", "channels", self.channels, 1, 3)
        check_range("FilmSettings", "every_episodes", self.every_episodes, 0, 1e9)
        check_range("FilmSettings", "every_minutes", self.every_minutes, 0, 1e6)
        check_range("FilmSettings", "least_gap_s", self.least_gap_s, 0, 1e6)
        check_range("FilmSettings", "kept", self.kept, 1, 100_000)


@dataclass
class _Slot:
    """What is known of a slot that is filmed now and then."""

    opened_s: float
    """Since when it is looked at."""
    episodes: int = 0
    due_episode: int = 0
    """The next one that is filmed for its number, or the first after it that can be."""
    begun_s: float | None = None
    """When its last film began."""
    take: Take | None = None
    """The film that is being shot."""
    first_s: float = 0.0
    steps: int = 0


class EpisodeFilms:
    """A Spectator that films.

    In lock-step a film runs at the environment's own pace; in real time each picture stands as
    long as it stood.

    Args:
        settings: What is filmed.
        show: The run.
        studio: Encodes; closed with this.
        clock: Seconds, steady.
        now: UTC.
    """

    def __init__(
        self,
        settings: FilmSettings,
        show: Show,
        *,
        studio: FilmStudio,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._show = show
        self._studio = studio
        self._clock = clock
        self._now = now
        self._slots = {slot: _Slot(opened_s=clock()) for slot in settings.slots}
        self._is_closed = False

    @classmethod
    def open(cls, settings: FilmSettings, show: Show, actor: str) -> EpisodeFilms:
        """Makes one in an actor; ``functools.partial(EpisodeFilms.open, settings)`` goes in a Show.

        Args:
            settings: What is filmed.
            show: The run.
            actor: The actor's name.
        """
        del actor
        return cls(
            settings, show, studio=FilmStudio(most_waiting_bytes=settings.most_waiting_bytes)
        )

    def stepped(self, slots: Int64Array, observations: npt.NDArray[Any], step_s: float) -> None:
        """Hands over what a filmed slot sees."""
        for number, slot in self._slots.items():
            rows = np.flatnonzero(slots == number)
            if len(rows) == 0:
                continue
            observation = observations[int(rows[0])]
            if step_s == 0.0:
                self._begin(number, slot, observation)
            if slot.take is not None:
                self._shoot(slot, slot.take, observation)

    def ended(self, record: EpisodeRecord) -> None:
        """Ends the film of that episode, if it was filmed."""
        slot = self._slots.get(record.slot)
        if slot is not None and slot.take is not None:
            self._studio.end(slot.take, record)
            slot.take = None

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        """Has no use for it."""

    def close(self) -> None:
        """Completes what is being filmed; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        for slot in self._slots.values():
            if slot.take is not None:
                self._studio.end(slot.take, None, why="run_ended")
                slot.take = None
        if not self._studio.close(timeout_s=CLOSE_TIMEOUT_S):
            log.warning("film.unfinished directory=%s", self._settings.directory)

    def _begin(self, number: int, slot: _Slot, observation: npt.NDArray[Any]) -> None:
        if slot.take is not None:
            self._studio.end(slot.take, None, why="end_not_seen")
            slot.take = None
        now_s = self._clock()
        is_due = self._is_due(slot, now_s)
        slot.episodes += 1
        if not is_due or not can_be_shown(observation):
            return
        slot.begun_s = slot.first_s = now_s
        slot.steps = 0
        slot.take = Take(
            directory=self._settings.directory,
            env=self._show.env_id,
            run=self._show.run,
            slot=number,
            fps=self._settings.fps,
            kept=self._settings.kept,
            started_at=self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    def _is_due(self, slot: _Slot, now_s: float) -> bool:
        settings = self._settings
        if slot.begun_s is not None and now_s - slot.begun_s < settings.least_gap_s:
            return False
        since_s = slot.opened_s if slot.begun_s is None else slot.begun_s
        every = settings.every_episodes
        is_due_by_count = bool(every) and slot.episodes >= slot.due_episode
        if is_due_by_count:
            slot.due_episode = (slot.episodes // every + 1) * every
        return is_due_by_count or bool(
            settings.every_minutes and now_s - since_s >= 60 * settings.every_minutes
        )

    def _shoot(self, slot: _Slot, take: Take, observation: npt.NDArray[Any]) -> None:
        is_realtime = self._show.mode == "realtime"
        at_s = self._clock() - slot.first_s if is_realtime else slot.steps / take.fps
        if slot.steps == 0:
            at_s = 0.0
        elif at_s <= 0.0:
            at_s = 1e-6
        slot.steps += 1
        seen = observation
        if seen.ndim > 1:
            seen = newest_picture(seen, self._settings.channels)
        if not self._studio.shoot(take, seen.copy(), at_s):
            slot.take = None
