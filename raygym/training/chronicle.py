"""Keeps what remains of a run: its record, its curves, its films and its report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from raygym.service.reports import ActorReport
from raygym.training.accounts import Accounts
from raygym.training.config import TrainConfig
from raygym.training.films import complete_films
from raygym.training.plan import Plan
from raygym.training.record import RunRecord
from raygym.training.record_reading import read_run
from raygym.training.report.curve_drawer import CurveDrawer
from raygym.training.report.curves import CURVES, write_page
from raygym.training.report.page import REPORT, write_report

log = logging.getLogger(__name__)

_DRAWER_TIMEOUT_S = 30.0


class Chronicle:
    """Of one run. What cannot be drawn or written at its end is logged and ends nothing.

    Args:
        config: Settings of the run.
        plan: Its environment.
        logdir: Where all goes.
        accounts: Of the run; they are read, and kept by the trainer.
        clock: Seconds, steady.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        logdir: Path,
        accounts: Accounts,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._logdir = logdir
        self._accounts = accounts
        self._clock = clock
        self._has_report = config.report
        self._record = RunRecord(logdir, config, plan, now_s=clock(), at=datetime.now(UTC))
        self._drawer: CurveDrawer | None = None

    def note(self, report: ActorReport) -> None:
        """Writes down an actor's report, which the accounts have seen."""
        self._record.note(report, self._accounts, self._clock())

    def save(self) -> None:
        """Brings all files up to date; the curves are drawn in a thread of their own."""
        self._record.save(self._accounts.summary(self._clock()))
        if self._has_report:
            if self._drawer is None:
                self._drawer = CurveDrawer(self._logdir)
            self._drawer.wish()

    def end(self, summary: Mapping[str, Any], why: str) -> None:
        """Writes down how the run ended.

        Args:
            summary: What came of it.
            why: Why it ended, for a person.
        """
        self._record.close(self._accounts, summary, ended_by=why, now_s=self._clock())

    def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Completes the films and writes curves and report; for the end of a ``with`` block.

        No actor may be playing any more.
        """
        now_s = self._clock()
        why = "" if kind is None else f"{kind.__name__}: {error}"
        self._record.close(self._accounts, self._accounts.summary(now_s), ended_by=why, now_s=now_s)
        if self._drawer is not None:
            self._drawer.close(timeout_s=_DRAWER_TIMEOUT_S)
        try:
            complete_films(self._logdir)
            if self._has_report:
                run = read_run(self._logdir)
                write_page(run, self._logdir / CURVES)
                write_report(run, self._logdir / REPORT)
        # What was learned is kept already; no picture of it may take that away.
        except Exception:
            log.exception("report.failed logdir=%s", self._logdir)
