"""Encodes films in a thread of its own. Who plays hands pictures over and never waits."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from raygym.core import Outcome
from raygym.films.pictures import Still, Stills, Traces
from raygym.films.shelf import (
    FilmRecord,
    free_name,
    free_name_of_cut,
    prune,
    rescue_films,
    write_record,
    write_sheet,
)
from raygym.films.writer import FilmWriter
from raygym.service.reports import EpisodeRecord

log = logging.getLogger(__name__)

MOST_WAITING_BYTES = 64 << 20
"""Pictures that wait to be encoded; a film that would need more is dropped."""
_NICENESS = 10
_LAST_JOB_S = 2.0
"""How long the job that is under way may still take once the rest is given up."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One film before its end is known."""

    directory: Path
    env: str
    run: str
    slot: int
    fps: float
    """Pictures a second of the environment's own time."""
    kept: int
    """How many newest films stay."""
    started_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class _Shot:
    take: Take
    observation: npt.NDArray[Any]
    at_s: float


@dataclass(frozen=True)
class _Cut:
    take: Take
    record: EpisodeRecord | None
    why: str


class FilmStudio:
    """One thread that encodes the films of an actor, one after another or side by side.

    Args:
        most_waiting_bytes: Bound of what waits.
    """

    def __init__(self, *, most_waiting_bytes: int = MOST_WAITING_BYTES) -> None:
        self._most_waiting_bytes = most_waiting_bytes
        self._waiting_bytes = 0
        self._changed = threading.Lock()
        self._jobs: queue.SimpleQueue[_Shot | _Cut | Take | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reels: dict[Take, _Reel] = {}
        self._known_slots: set[int] = set()
        self._is_given_up = False
        self.dropped = 0
        """Films that were given up because pictures came faster than they could be encoded."""

    def shoot(self, take: Take, observation: npt.NDArray[Any], at_s: float) -> bool:
        """Takes over the next observation of a film.

        Args:
            take: The film; its first observation begins it.
            observation: What is to be seen: a picture uint8[H, W, 1 or 3], or a vector [N]; it
                becomes the studio's.
            at_s: When, in seconds since the film began.

        Returns:
            Whether there was room; if not, the film is given up.
        """
        with self._changed:
            has_room = self._waiting_bytes + observation.nbytes <= self._most_waiting_bytes
            self._waiting_bytes += observation.nbytes if has_room else 0
        if has_room:
            self._start()
            self._jobs.put(_Shot(take, observation, at_s))
        else:
            self.dropped += 1
            self._jobs.put(take)
            log.info("film.dropped slot=%d waiting_bytes=%d", take.slot, self._waiting_bytes)
        return has_room

    def end(self, take: Take, record: EpisodeRecord | None, *, why: str = "") -> None:
        """Ends a film.

        Args:
            take: Which.
            record: The episode's; None where nobody heard of its end.
            why: Why it was cut there, where no record tells.
        """
        self._jobs.put(_Cut(take, record, why))

    def close(self, *, timeout_s: float) -> bool:
        """Ends the thread when all was encoded; may be called twice.

        Returns:
            Whether that was within ``timeout_s``; what was not encoded by then can be rescued,
            as no more is written but what was begun.
        """
        self._jobs.put(None)
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        has_all = not self._thread.is_alive()
        self._is_given_up = not has_all
        self._thread.join(_LAST_JOB_S)
        return has_all

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="film-studio", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        # On Linux a thread has a niceness of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (job := self._jobs.get()) is not None and not self._is_given_up:
            take = job if isinstance(job, Take) else job.take
            try:
                self._do(job)
            # A film must not end the run, nor the films after it.
            except Exception:
                log.exception("film.failed slot=%d directory=%s", take.slot, take.directory)
                self._reels.pop(take, _Nothing()).discard()
            finally:
                if isinstance(job, _Shot):
                    with self._changed:
                        self._waiting_bytes -= job.observation.nbytes

    def _do(self, job: _Shot | _Cut | Take) -> None:
        if isinstance(job, _Shot):
            if job.at_s == 0.0:
                self._rescue(job.take)
                self._reels[job.take] = _Reel(job)
            if (reel := self._reels.get(job.take)) is not None:
                reel.add(job)
        elif isinstance(job, Take):
            self._reels.pop(job, _Nothing()).discard()
        elif (reel := self._reels.pop(job.take, None)) is not None:
            reel.finish(job.record, job.why)

    def _rescue(self, take: Take) -> None:
        """Completes the film that whoever played this slot before has left."""
        if take.slot not in self._known_slots:
            self._known_slots.add(take.slot)
            rescue_films(take.directory, slot=take.slot)


class _Nothing:
    def discard(self) -> None:
        """There is nothing to discard."""


class _Reel:
    """A film that is being encoded."""

    def __init__(self, shot: _Shot) -> None:
        take = self._take = shot.take
        stamp = re.sub(r"[-:.]", "", take.started_at)
        self._name = free_name(take.directory, f"slot-{take.slot}-{stamp}")
        self._stills = Stills()
        self._last_s = 0.0
        self._traces = Traces() if shot.observation.ndim == 1 else None
        self._shows = "picture" if self._traces is None else "vector"
        known = {"env": take.env, "run": take.run, "slot": take.slot, "fps": take.fps}
        self._writer = FilmWriter(
            take.directory / f"{self._name}.mp4",
            fps=take.fps,
            title=f"{take.env}, slot {take.slot}, {take.started_at}",
            comment=json.dumps({**known, "started_at": take.started_at, "shows": self._shows}),
        )

    def add(self, shot: _Shot) -> None:
        seen = shot.observation
        picture = seen if self._traces is None else self._traces.picture(seen)
        self._writer.add(picture, at_s=shot.at_s)
        self._stills.add(Still(self._writer.frames - 1, shot.at_s, picture))
        self._last_s = shot.at_s

    def finish(self, episode: EpisodeRecord | None, why: str) -> None:
        take, writer = self._take, self._writer
        writer.close()
        name = self._name
        if episode is not None:
            name = f"slot-{take.slot}-episode-{episode.episode:06d}"
            why = "" if episode.outcome is Outcome.OK else str(episode.outcome)
        name = free_name_of_cut(take.directory, name, why)
        shot = take.directory / f"{self._name}.mp4"
        record = FilmRecord(
            film=f"{name}.mp4",
            sheet=f"{name}.png",
            env=take.env,
            run=take.run,
            slot=take.slot,
            episode=None if episode is None else episode.episode,
            score=None if episode is None else episode.score,
            steps=writer.frames - 1,
            duration_s=round(self._last_s + 1 / take.fps, 3),
            outcome="" if episode is None else str(episode.outcome),
            reason="" if episode is None else episode.reason,
            cut=why,
            started_at=take.started_at,
            size_px=writer.size_px,
            size_bytes=shot.stat().st_size,
            shows=self._shows,
        )
        write_sheet(take.directory, record, self._stills)
        shot.replace(take.directory / record.film)
        write_record(take.directory, record)
        prune(take.directory, slot=take.slot, keep=take.kept)
        log.info("film.done film=%s frames=%d", record.film, writer.frames)

    def discard(self) -> None:
        self._writer.discard()
