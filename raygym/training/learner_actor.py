"""The actor that plays, learns, and keeps its weights together with the other learners.

A plain class: ``LearnerGroup`` makes it a Ray actor. One thread plays and learns, without waiting
for anybody's call; what came of it is taken by ``take``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from raygym.core import Rollout
from raygym.errors import ConfigError, MissingDependency
from raygym.policies.batched import Average, BatchedLearner
from raygym.service.episode_log import log_as_actor
from raygym.service.reports import WEIGHTS_LAG, ActorReport, SamplerReport
from raygym.service.rollouts import weights_lag
from raygym.service.spectators import actor_repr
from raygym.training.learner_average import Averaging, Host, Meeting, PeerLost, join
from raygym.training.learner_memory import keep_freed_memory
from raygym.training.learner_sources import LearnerSetup, Seat, Source

log = logging.getLogger(__name__)

COLLECT_S = 0.5
"""Longest time between two looks at whether to go on, and between two reports."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a learner has to say since it was asked last."""

    reports: list[ActorReport]
    """One a slot and update, oldest first."""
    status: Literal["waiting", "running", "lost", "failed", "closed"]
    """``waiting`` for a meeting; ``lost`` when another learner went; ``failed`` for good."""
    version: int
    """Updates so far."""
    is_playing: bool = False
    """Whether it waits for its slots, not for other learners."""
    error: str = ""
    """What it failed of."""


class LearnerActor:
    """One learner with its own source of rollouts.

    Args:
        rank: Its number among the learners.
        setup: What all of them share.
        state: Of ``BatchedLearner`` in a checkpoint, or None.
        random_state: Of its random numbers in a checkpoint, or None.
    """

    def __init__(
        self,
        rank: int,
        setup: LearnerSetup,
        state: Mapping[str, Any] | None = None,
        random_state: Mapping[str, Any] | None = None,
    ) -> None:
        log_as_actor()
        torch.set_num_threads(1)
        self._rank, self._setup = rank, setup
        self._random_state = dict(random_state or {})
        self._learner = BatchedLearner(
            setup.network,
            setup.config,
            seed=setup.seed,
            rank=rank,
            num_learners=setup.num_learners,
        )
        if state is not None:
            self._learner.restore(state)
        self._host: Host | None = None
        self._changed = threading.Condition()
        self._next: tuple[Meeting | None, Mapping[str, Any] | None] | None = None
        self._has_to_leave = threading.Event()
        self._is_closing = False
        self._reports: list[ActorReport] = []
        self._status: Literal["waiting", "running", "lost", "failed", "closed"] = "waiting"
        self._error = ""
        self._core: int | None = None
        self._is_playing = False
        self._collect_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"learner-{rank}", daemon=True)

    def __repr__(self) -> str:
        each = self._setup.slots_per_learner
        return actor_repr("LearnerActor", self._rank * each, each, self._setup.show)

    def where(self) -> tuple[str, str]:
        """Returns the id of this actor's Ray node, and its address."""
        import ray

        # Ray leaves it without annotations.
        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return ray.get_runtime_context().get_node_id(), address

    def host(self, kind: Literal["memory", "gloo"], address: str) -> Meeting:
        """Opens a meeting for all learners; asked of learner 0.

        Args:
            kind: Through what means are taken.
            address: Of this machine, as the other learners reach it.
        """
        if self._host is not None:
            self._host.close()
        self._host = Host(
            kind,
            address=address,
            size=self._learner.vector_size,
            num_learners=self._setup.num_learners,
        )
        return self._host.meeting

    def begin(
        self,
        meeting: Meeting | None,
        state: Mapping[str, Any] | None = None,
        core: int | None = None,
    ) -> None:
        """Has the learner play and learn with those of a meeting; it leaves its former group.

        Args:
            meeting: Where they meet; None for a learner on its own.
            state: What all of them go on from; None for what each has.
            core: The processor that it keeps to; None for any.
        """
        with self._changed:
            self._next = (meeting, state)
            self._core = core
            if self._status == "lost":
                # It is called to others: who waits for news must not hear of the old loss again.
                self._status = "waiting"
            self._has_to_leave.set()
            self._changed.notify_all()
        if self._thread.ident is None:
            self._thread.start()

    def take(self, *, timeout_s: float) -> Taken:
        """Returns what came since the last call; waits for something.

        Args:
            timeout_s: Longest wait.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._reports or self._status in ("lost", "failed", "closed"), timeout_s
            )
            reports, self._reports = self._reports, []
            return Taken(
                reports=reports,
                status=self._status,
                version=self._learner.version,
                is_playing=self._is_playing,
                error=self._error,
            )

    def state(self) -> dict[str, Any]:
        """Returns the state of ``BatchedLearner``, for a checkpoint."""
        return self._learner.state()

    def close(self, *, timeout_s: float = 3.0) -> bool:
        """Ends the learner and its source; may be called twice.

        Returns:
            Whether it ended within ``timeout_s``.
        """
        with self._changed:
            self._is_closing = True
            self._has_to_leave.set()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._host is not None:
            self._host.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        keep_freed_memory()
        # These belong to a thread, not to a process.
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        source: Source | None = None
        try:
            while (order := self._await_order()) is not None:
                if source is None:
                    self._is_playing = True
                    source = self._make_source()
                self._learn_with(source, *order)
        # The thread's last resort: the error travels to the driver.
        except Exception as error:  # noqa: BLE001
            self._fail(error)
        else:
            self._set_status("closed")
        finally:
            if source is not None:
                source.close()

    def _await_order(self) -> tuple[Meeting | None, Mapping[str, Any] | None] | None:
        """Waits for ``begin`` or ``close``; returns None for the second."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._is_closing)
            if self._is_closing:
                return None
            order, self._next = self._next, None
            self._has_to_leave = threading.Event()
            return order

    def _make_source(self) -> Source:
        if self._core is not None:
            # Of this thread, and of all that it starts.
            os.sched_setaffinity(0, {self._core})
        seat = Seat(
            setup=self._setup,
            rank=self._rank,
            learner=self._learner,
            random_state=self._random_state,
        )
        return self._setup.make_source(seat)

    def _learn_with(
        self, source: Source, meeting: Meeting | None, state: Mapping[str, Any] | None
    ) -> None:
        """Plays and learns until it is told otherwise, or a learner of the group is lost."""
        has_to_leave = self._has_to_leave
        if state is not None:
            self._learner.restore(state)
        source.note_update(self._learner)
        averaging: Averaging | None = None
        try:
            if meeting is not None:
                averaging = join(meeting, self._rank, host=self._host, has_to_leave=has_to_leave)
                if self._host is not None:
                    # All have come: nobody needs the way there any more.
                    self._host.close()
            self._set_status("running")
            while not has_to_leave.is_set():
                self._iterate(source, averaging)
        except PeerLost as error:
            log.warning("learner.alone rank=%d cause=%s", self._rank, error)
            with self._changed:
                # A new meeting may have been called already.
                if self._next is None and not self._is_closing:
                    self._set_status("lost")
        finally:
            if averaging is not None:
                averaging.close()

    def _iterate(self, source: Source, averaging: Averaging | None) -> None:
        started_s = time.monotonic()
        self._is_playing = True
        rollout = source.collect(timeout_s=COLLECT_S)
        self._is_playing = False
        collected_s = time.monotonic()
        self._collect_s += collected_s - started_s
        if rollout is None:
            self._hand_out(source, {})
            return
        timed = _Timed(averaging) if averaging is not None else None
        lag = weights_lag(rollout, self._learner.version)
        statistics = self._learn(rollout, timed)
        statistics[WEIGHTS_LAG] = lag
        source.note_update(self._learner)
        statistics["seconds_collect"], self._collect_s = self._collect_s, 0.0
        statistics["seconds_average"] = timed.seconds if timed else 0.0
        seconds = time.monotonic() - collected_s
        statistics["seconds_learn"] = seconds - statistics["seconds_average"]
        self._hand_out(source, statistics)

    def _learn(self, rollout: Rollout, average: Average | None) -> dict[str, float]:
        return self._learner.learn(rollout, average=average)

    def _hand_out(self, source: Source, statistics: Mapping[str, float]) -> None:
        state = source.random.bit_generator.state
        reports = source.reports()
        for report in reports:
            report.random_state = state
        # One update is one update, however many learners and slots took part.
        speaker = 0 if self._rank == 0 and statistics else None
        with self._changed:
            self._reports += [
                _report(report, statistics if n == speaker else {})
                for n, report in enumerate(reports)
            ]
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        is_fatal = isinstance(error, ConfigError | MissingDependency)
        text = str(error) if is_fatal else "".join(traceback.format_exception(error))
        log.error("learner.failed rank=%d error=%s", self._rank, text)
        first = self._rank * self._setup.slots_per_learner
        with self._changed:
            self._error = text
            self._status = "failed"
            self._reports += [
                _report(SamplerReport(slot=slot, state="failed", error=text, is_fatal=is_fatal), {})
                for slot in range(first, first + self._setup.slots_per_learner)
            ]
            self._changed.notify_all()

    def _set_status(self, status: Literal["waiting", "running", "lost", "closed"]) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()


class _Timed:
    """An average that measures what it costs."""

    def __init__(self, average: Callable[[torch.Tensor], None]) -> None:
        self.seconds = 0.0
        self._average = average

    def __call__(self, vector: torch.Tensor) -> None:
        started_s = time.perf_counter()
        self._average(vector)
        self.seconds += time.perf_counter() - started_s


def _report(sampler: SamplerReport, statistics: Mapping[str, float]) -> ActorReport:
    return ActorReport(
        sampler=sampler, has_gradient=bool(statistics), statistics=statistics, pid=os.getpid()
    )
