"""``python -m raygym.report``: writes the report and the curves of a run, old or going on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from raygym.errors import ConfigError
from raygym.training.films import complete_films
from raygym.training.record_reading import read_run
from raygym.training.report.curves import CURVES, write_page
from raygym.training.report.page import REPORT, write_report

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m raygym.report",
        description="Writes the report of a run of raygym.train as one HTML file, and its curves "
        "as PNG.",
    )
    parser.add_argument("logdir", type=Path, help="the run's --logdir")
    parser.add_argument(
        "--out", type=Path, help=f"the HTML file; by default {REPORT} in the logdir"
    )
    parser.add_argument(
        "--complete-films",
        action="store_true",
        help="first completes films that a crash cut short; only where the run is over",
    )
    flags = parser.parse_args(arguments)
    try:
        if flags.complete_films:
            complete_films(flags.logdir)
        run = read_run(flags.logdir)
    except ConfigError as error:
        sys.stderr.write(f"raygym.report: {error}\n")
        return EXIT_USAGE
    out = flags.out or flags.logdir / REPORT
    write_page(run, flags.logdir / CURVES)
    write_report(run, out)
    sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
