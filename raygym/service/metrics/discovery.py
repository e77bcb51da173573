"""Says to Prometheus where a Ray of this machine serves its metrics.

Ray's dashboard writes ``prom_metrics_service_discovery.json``; without one nobody does. The form
is that of https://prometheus.io/docs/guides/file-sd/.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from raygym.machine import process_exists

log = logging.getLogger(__name__)

_STEM = "prom_metrics_service_discovery_raygym_"


@contextlib.contextmanager
def discovery_file() -> Iterator[Path | None]:
    """Names the nodes of the Ray that this process started, in a file beside Ray's own.

    It is called ``prom_metrics_service_discovery_raygym_<pid>.json`` and goes with the block; so
    do those which killed processes left. A run is not refused for want of it: a folder that
    cannot be written is logged.

    Yields:
        The file; None if it could not be written.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"  # noqa: S108
    path = folder / f"{_STEM}{os.getpid()}.json"
    is_written = _write(path)
    try:
        yield path if is_written else None
    finally:
        if is_written:
            path.unlink(missing_ok=True)


def _write(path: Path) -> bool:
    draft = path.with_suffix(".draft")
    try:
        _remove_orphans(path.parent)
        draft.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": _targets()}]))
        draft.replace(path)
    except OSError as error:
        log.warning("metrics.not_announced file=%s error=%s", path, error)
        return False
    return True


def _targets() -> list[str]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        for node in nodes
        if node["Alive"]
    ]


def _remove_orphans(folder: Path) -> None:
    for left in folder.glob(f"{_STEM}*.json"):
        pid = left.stem.removeprefix(_STEM)
        if pid.isdigit() and not process_exists(int(pid)):
            left.unlink(missing_ok=True)
