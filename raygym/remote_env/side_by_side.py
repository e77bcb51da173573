"""Does one thing to many Remotes at once, also while the interpreter ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable


def side_by_side(task: Callable[[str], None], names: Iterable[str], deadline_s: float) -> None:
    """Runs a task for each name, on threads where the interpreter still starts any.

    Args:
        task: What is done; it may go on after the deadline.
        names: To what.
        deadline_s: Until when to wait, by ``time.monotonic``.
    """
    threads = [threading.Thread(target=task, args=(name,), daemon=True) for name in names]
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            thread.run()
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline_s - time.monotonic()))
