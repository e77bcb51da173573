"""Draws the page of curves while a run goes on."""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path

from raygym.training.record_reading import read_run
from raygym.training.report.curves import CURVES, write_page

log = logging.getLogger(__name__)


class CurveDrawer:
    """Draws ``curves.png`` in a thread of its own, the newest wish only.

    Args:
        logdir: Of the run.
    """

    def __init__(self, logdir: Path) -> None:
        self._logdir = logdir
        self._wishes: queue.Queue[bool] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._work, name="curves", daemon=True)
        self._thread.start()

    def wish(self) -> None:
        """Asks for the page to be drawn; does nothing where one is wished for already."""
        if self._wishes.empty():
            self._wishes.put(True)

    def close(self, *, timeout_s: float) -> None:
        """Ends the thread, after what it is drawing."""
        self._wishes.put(False)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while self._wishes.get():
            try:
                write_page(read_run(self._logdir), self._logdir / CURVES)
            # A picture must not end the run.
            except Exception:
                log.exception("curves.failed logdir=%s", self._logdir)
