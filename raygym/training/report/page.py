"""Writes a run's report: one HTML file that opens anywhere, without a network and scripts."""

from __future__ import annotations

import html
import os
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import raygym
from raygym.training.record_reading import RunData
from raygym.training.report.sections import sections
from raygym.training.report.summary import headline

REPORT = "report.html"
"""Name of the report in a logdir."""
_STYLE = "report.css"


def make_report(run: RunData, *, at: datetime) -> str:
    """Returns the page.

    Args:
        run: What is known of the run.
        at: When the page is made, UTC.
    """
    style = resources.files("raygym.training.report").joinpath(_STYLE).read_text(encoding="utf-8")
    title = html.escape(f"{run.env or run.logdir.resolve().name}: report of a run")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>\n{style}</style></head><body><main>\n"
        + headline(run)
        + "\n".join(sections(run))
        + f"</main><footer>Written by raygym {html.escape(raygym.__version__)}, "
        f"{at:%Y-%m-%d %H:%M} UTC.</footer></body></html>\n"
    )


def write_report(run: RunData, path: Path) -> None:
    """Writes the page, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(make_report(run, at=datetime.now(UTC)), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
