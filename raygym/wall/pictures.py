"""The spectator that tells the wall what its slots see and how they fare."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from ray.exceptions import RayError

from raygym.core import Outcome, Remote
from raygym.errors import ConfigError, RaygymError
from raygym.service.reports import EpisodeRecord, SamplerReport
from raygym.service.spectators import Show
from raygym.wall.hub import AwaitedHub, HubAbsent
from raygym.wall.thumbnails import as_picture, newest_view
from raygym.wall.tiles import HISTORY_EPISODES, Demand, Picture, Publication, Row

log = logging.getLogger(__name__)

Int64Array = npt.NDArray[np.int64]

LONGEST_TEXT = 400
"""Characters of an error that are shown."""
_CLOSE_S = 2.0


class Publisher(Protocol):
    """The hub, as an actor sees it; a call may block for seconds."""

    def publish(self, publication: Publication) -> Demand:
        """Takes in what an actor tells; returns what it should send."""
        ...


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """How much an actor tells the wall."""

    channels: int | None = None
    """Of one frame in an observation, 1 or 3; None guesses."""
    watched_every_s: float = 0.5
    """Least time between two pictures of a slot that somebody sees."""
    unwatched_every_s: float = 10.0
    """The same while nobody does."""
    large_every_s: float = 0.15
    """The same while somebody looks at it in full."""
    heartbeat_s: float = 1.5
    """Longest silence; the answer says what is wanted."""
    gap_s: float = 0.1
    """Least time between two calls."""
    retry_s: float = 5.0
    """Pause after a call that failed."""
    absent_s: float = 2.0
    """Time between two looks for somebody who looks."""
    thumbnail_px: int = 256
    """Longest side of a small picture."""
    large_px: int = 1280
    """Longest side of a large one."""

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"PicturesConfig.channels: expected 1, 3 or None: {self.channels!r}")
        for name in ("watched_every_s", "unwatched_every_s", "large_every_s", "heartbeat_s"):
            if getattr(self, name) <= 0.0:
                raise ConfigError(
                    f"PicturesConfig.{name}: expected more than 0, got {getattr(self, name)}"
                )


@dataclass
class _Taken:
    """A picture that waits to be sent."""

    seen: npt.NDArray[Any]
    at_s: float


class Pictures:
    """Copies a picture now and then; a thread of its own makes it small and sends it.

    While the hub does not answer, nothing waits for it: the newest picture of each slot and its
    row are kept, older ones are overwritten.

    Args:
        show: The run.
        actor: Name of the actor.
        publisher: The hub.
        config: How much is told.
        node: Id of the Ray node; empty outside Ray.
        clock: Seconds, steady.
    """

    def __init__(
        self,
        show: Show,
        actor: str,
        publisher: Publisher,
        config: PicturesConfig | None = None,
        *,
        node: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._actor = actor
        self._publisher = publisher
        self._config = config or PicturesConfig()
        self._node = node
        self._clock = clock
        self._lock = threading.Lock()
        self._demand = Demand()
        self._due_s: dict[int, float] = {}
        self._look_s = 0.0
        """Before that no slot is due."""
        self._taken: dict[int, _Taken] = {}
        self._rows: dict[int, Row] = {}
        self._changed: set[int] = set()
        self._remotes: dict[int, Remote | None] = {}
        self._moved: set[int] = set()
        self._has_news = threading.Event()
        self._must_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wall-{actor}", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, config: PicturesConfig, show: Show, actor: str) -> Pictures:
        """Makes one in an actor of a Ray cluster, for ``Show.opens``.

        Args:
            config: How much is told; bound with ``functools.partial``.
            show: The run.
            actor: Name of the actor.
        """
        import ray

        node = ray.get_runtime_context().get_node_id()
        return cls(show, actor, AwaitedHub(), config, node=node)

    def __repr__(self) -> str:
        return f"Pictures(run={self._show.run!r}, actor={self._actor!r})"

    def stepped(self, slots: Int64Array, observations: npt.NDArray[Any], step_s: float) -> None:
        """Copies the pictures of the slots that are due; see ``Spectator``."""
        del step_s
        now_s = self._clock()
        if now_s < self._look_s:
            return
        config = self._config
        for row, slot in enumerate(slots.tolist()):
            if now_s < self._due_s.get(slot, 0.0):
                continue
            self._due_s[slot] = now_s + self._every_s(slot)
            seen = newest_view(observations[row], channels=config.channels)
            if seen is None:
                continue
            taken = _Taken(seen.copy(), now_s)
            with self._lock:
                self._row(slot)
                self._taken[slot] = taken
            self._has_news.set()
        self._look_s = min(min(self._due_s.values()), now_s + config.watched_every_s)

    def ended(self, record: EpisodeRecord) -> None:
        """Notes a score; see ``Spectator``."""
        has_failed = record.outcome is not Outcome.OK
        with self._lock:
            row = self._row(record.slot)
            self._set(
                record.slot,
                episodes=row.episodes + 1,
                score=record.score,
                outcome=str(record.outcome),
                reason=record.reason[-LONGEST_TEXT:],
                seconds=record.duration_s,
                steps=record.steps,
                scores=(*row.scores, record.score)[-HISTORY_EPISODES:],
                failed=(*row.failed, has_failed)[-HISTORY_EPISODES:],
                remote_id=record.remote_id or row.remote_id,
            )

    def reported(self, reports: Sequence[SamplerReport]) -> None:
        """Notes how slots fare; see ``Spectator``."""
        with self._lock:
            for report in reports:
                times_ms = report.times_ms.get("reaction_time_ms", ())
                row = self._row(report.slot)
                remote = report.remote
                remote_id = report.remote_id or ("" if remote is None else remote.id)
                self._set(
                    report.slot,
                    state=report.state,
                    error=report.error[-LONGEST_TEXT:],
                    reaction_ms=float(np.mean(times_ms)) if len(times_ms) else row.reaction_ms,
                    remotes_lost=report.remotes_lost,
                    remote_id=remote_id,
                    has_screen=self._has_screen(remote_id, remote),
                )
                if self._remotes.get(report.slot) != remote:
                    self._remotes[report.slot] = remote
                    self._moved.add(report.slot)

    def close(self) -> None:
        """Takes leave of the wall, for two seconds at most; see ``Spectator``."""
        self._must_end.set()
        self._has_news.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _every_s(self, slot: int) -> float:
        demand, config = self._demand, self._config
        if slot in demand.large:
            return config.large_every_s
        return config.watched_every_s if slot in demand.watched else config.unwatched_every_s

    def _has_screen(self, remote_id: str, remote: Remote | None) -> bool:
        if remote is not None:
            return remote.vnc is not None
        # A container's screen is found by its name.
        show = self._show
        return bool(remote_id) and show.backend == "docker" and show.mode == "realtime"

    def _row(self, slot: int) -> Row:
        """Returns the row of a slot; the lock is held."""
        row = self._rows.get(slot)
        if row is None:
            row = self._rows[slot] = Row(
                run=self._show.run,
                slot=slot,
                env_id=self._show.env_id,
                runtime=self._show.runtime,
                mode=self._show.mode,
                actor=self._actor,
                node=self._node,
            )
            self._changed.add(slot)
        return row

    def _set(self, slot: int, **changes: Any) -> None:
        """Changes a row; the lock is held."""
        row = replace(self._rows[slot], **changes)
        if row != self._rows[slot]:
            self._rows[slot] = row
            self._changed.add(slot)

    def _run(self) -> None:
        is_down = is_last = False
        while not is_last:
            self._has_news.wait(self._config.heartbeat_s)
            self._has_news.clear()
            is_last = self._must_end.is_set()
            try:
                self._publish(is_last=is_last)
            except HubAbsent:
                self._must_end.wait(self._config.absent_s)
            # The actor may leave Ray at any time, and Ray raises what it likes then.
            except (RaygymError, RayError, RuntimeError, ValueError, OSError) as error:
                if not is_down:
                    log.warning("wall.unreachable actor=%s cause=%s", self._actor, error)
                is_down = True
                self._must_end.wait(self._config.retry_s)
            else:
                is_down = False
                self._must_end.wait(self._config.gap_s)

    def _publish(self, *, is_last: bool) -> None:
        with self._lock:
            taken, self._taken = self._taken, {}
            changed, self._changed = self._changed, set()
            moved, self._moved = self._moved, set()
            slots = sorted(self._rows)
            rows = [self._rows[slot] for slot in sorted(changed)]
            remotes = [(slot, self._remotes[slot]) for slot in sorted(moved)]
        if not slots:
            return
        publication = Publication(
            run=self._show.run,
            actor=self._actor,
            slots=slots,
            rows=rows,
            remotes=remotes,
            pictures=[self._picture(slot, one) for slot, one in taken.items()],
            is_last=is_last,
        )
        try:
            demand = self._publisher.publish(publication)
        except BaseException:
            with self._lock:
                self._changed |= changed
                self._moved |= moved
            raise
        self._follow(demand)

    def _picture(self, slot: int, taken: _Taken) -> Picture:
        is_large = slot in self._demand.large
        return as_picture(
            slot,
            taken.seen,
            most_px=self._config.large_px if is_large else self._config.thumbnail_px,
            is_large=is_large,
            age_s=self._clock() - taken.at_s,
        )

    def _follow(self, demand: Demand) -> None:
        """Sends from now on what is wanted."""
        if demand.whole:
            with self._lock:
                self._changed |= set(self._rows)
                self._moved |= set(self._remotes)
            self._has_news.set()
        newly = (demand.watched - self._demand.watched) | (demand.large - self._demand.large)
        self._demand = demand
        # Whoever plays may be going through them: none is added here.
        for slot in newly & self._due_s.keys():
            self._due_s[slot] = 0.0
        if newly:
            self._look_s = 0.0
