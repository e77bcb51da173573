"""A task on a thread of its own, again and again until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Repeating:
    """Runs a task every so often; an exception is logged and the next round comes all the same.

    Args:
        name: Of the thread, and in the log.
        task: What to run.
        interval_s: From the end of one round to the start of the next.
        is_eager: Whether the first round comes at once.
    """

    def __init__(
        self, name: str, task: Callable[[], object], *, interval_s: float, is_eager: bool = False
    ) -> None:
        self._name = name
        self._task = task
        self._interval_s = interval_s
        self._is_eager = is_eager
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_stopped = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts the thread; does nothing where it runs already, or was stopped."""
        with self._lock:
            if self._thread is not None or self._is_stopped:
                return
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def nudge(self) -> None:
        """Makes the next round come at once."""
        self._wake.set()

    def stop(self, *, timeout_s: float) -> None:
        """Ends the thread, and waits for a round in progress for that long at most."""
        with self._lock:
            self._is_stopped = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        is_due = self._is_eager
        while not self._is_stopped:
            if is_due:
                try:
                    self._task()
                except Exception as error:  # noqa: BLE001  the next round may go well
                    log.warning("task.failed name=%s cause=%r", self._name, error)
            is_due = True
            self._wake.wait(self._interval_s)
            self._wake.clear()
